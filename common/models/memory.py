"""Whether a model can be trained in the memory that is there, asked before anything of it is made.

Shapes alone are computed, on PyTorch's meta device. What is counted is what training takes at the least: a model is
refused only where it cannot fit, and one that is let pass may still fail.
"""

from dataclasses import dataclass
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from common.architectures import architecture
from common.config import Experiment
from common.errors import UserError
from common.methods import METHODS
from common.models.backbones import Backbone, build_backbone, shapes_of
from common.models.features import EVAL_BATCH
from common.models.standing import Norm, make_stand

_GIB = 2**30
_MEMORY = ("this machine", "the GPU")
_FEW = 1 << 21  # pixels of a batch with which our own small backbones fit anywhere; shapes take seconds to import
_CGROUPS = Path("/sys/fs/cgroup")
_WEIGHTED = (nn.Conv2d, nn.Linear, Norm)  # layers whose outputs are counted
_MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}  # of a parameter


@dataclass(frozen=True)
class Needed:
    """Bytes that a site's step of training takes at the least.

    Attributes:
        weights: of the backbone, and of a personal one.
        gradients: of what trains, with the optimiser's moments.
        activations: of a batch of training, or of evaluation where that is more.
    """

    weights: int
    gradients: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.activations


def check_memory(experiment: Experiment, channels: int, size: tuple[int, int], device: torch.device) -> None:
    """Check that the backbone can be trained in the memory that is free.

    Args:
        experiment: the run.
        channels: of the images.
        size: (H, W) in pixels.
        device: that trains.

    Raises:
        UserError: it cannot; with what needs how much.
    """
    small = not architecture(experiment.model.backbone).large
    if small and experiment.train.batch_size * size[0] * size[1] <= _FEW:
        return
    needed, free = needed_memory(experiment, channels, size), free_memory(device)
    if needed.total <= free:
        return
    parts = f"weights {_gib(needed.weights)}, gradients and moments {_gib(needed.gradients)}"
    raise UserError(
        f"backbone = '{experiment.model.backbone}': with batch-size {experiment.train.batch_size} and images of "
        f"{size[0]}×{size[1]} pixels it takes {_gib(needed.total)} GiB or more ({parts}, activations "
        f"{_gib(needed.activations)}), and {_MEMORY[device.type == 'cuda']} has "
        f"{_gib(free)} GiB free; choose a smaller backbone, image-size or batch-size, or train-from a later stage"
    )


def needed_memory(experiment: Experiment, channels: int, size: tuple[int, int]) -> Needed:
    """Return what a step of training takes at the least; images are taken by the backbone, see `check_image_size`."""
    keys = experiment.model
    body = shapes_of(lambda: build_backbone(keys.backbone, channels, keys.width))
    make_stand(body, experiment)
    half = 1 if keys.precision == "fp32" else 2
    state = body.state_dict().values()
    trains = sum(p.nbytes for p in body.parameters() if p.requires_grad)
    moments = 0 if experiment.train.optimizer == "sgd" and not experiment.train.momentum else 1
    moments *= _MOMENTS[experiment.train.optimizer]
    bodies = 2 if "personal_backbone" in METHODS[experiment.method].parts else 1
    kept, largest = _activations(body, (channels, *size))
    activations = max(kept * experiment.train.batch_size * bodies, largest * EVAL_BATCH) // half
    return Needed(bodies * sum(value.nbytes for value in state), bodies * trains * (1 + moments), activations)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free: of a GPU's memory, else the machine's, or its container's where that has less."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free, limit = int(psutil.virtual_memory().available), _container("memory.max")
    used = _container("memory.current") if limit is not None else None
    return free if limit is None or used is None else min(free, max(0, limit - used))


def total_memory() -> int:
    """Return the bytes of memory that this process may use: the machine's, or its container's."""
    total, limit = int(psutil.virtual_memory().total), _container("memory.max")
    return total if limit is None else min(total, limit)


def _container(name: str) -> int | None:
    """Return a number of this process's container; None where there is none, or it says 'max'."""
    try:
        return int((_CGROUPS / name).read_text())
    except (OSError, ValueError):
        return None


@torch.no_grad()
def output_bytes(backbone: nn.Module, shape: tuple[int, ...]) -> list[tuple[nn.Module, int]]:
    """Return each layer that an image of a shape (channels, H, W) calls, with the bytes of its output.

    Of attention, whose own layers are never called by themselves, also those of its projections and maps.

    Args:
        backbone: on any device, on the meta device too; put into eval mode.
        shape: of the image.
    """
    found: list[tuple[nn.Module, int]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, Tensor | None]) -> None:
        if isinstance(layer, nn.MultiheadAttention):
            queries, pixels = inputs[:2]
            maps = layer.num_heads * queries.shape[-2] * pixels.shape[-2] * pixels.element_size()
            found.append((layer, 3 * queries.nbytes + 3 * pixels.nbytes + 2 * maps))
        elif isinstance(output, Tensor):
            found.append((layer, output.nbytes))

    leaves = [m for m in backbone.modules() if not list(m.children()) or isinstance(m, nn.MultiheadAttention)]
    hooks = [layer.register_forward_hook(note) for layer in leaves]
    backbone.eval()(torch.zeros(1, *shape, device=next(backbone.parameters()).device))
    for hook in hooks:
        hook.remove()
    return found


def _activations(body: Backbone, shape: tuple[int, ...]) -> tuple[int, int]:
    """Return bytes for one image: of the outputs kept for gradients of layers behind the trunk, and of the largest."""
    every = [(layer, size) for layer, size in output_bytes(body, shape) if isinstance(layer, _WEIGHTED)]
    kept = (size for layer, size in every if any(p.requires_grad for p in layer.parameters(recurse=False)))
    return sum(kept), max((size for _, size in every), default=0)


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f}"
