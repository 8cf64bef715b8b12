"""A run's generic model for use elsewhere: safetensors, ONNX, and a card that says what it is."""

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.errors import UserError
from common.files import check_new
from common.model import pick_device
from common.seeds import derive
from common.trained import GENERIC, TrainedModel, load_trained
from server_app.model_card import model_card

TOLERANCE = 1e-4  # of ONNX Runtime's answers against PyTorch's
INSTALL = "pip install 'fednc[onnx]'"

_OF_ONE_MACHINE = ("data-dir", "output-dir", "run-name", "resume", "device", "threads")


def export(folder: Path, head: str = "", output: Path | None = None, overwrite: bool = False) -> list[str]:
    """Write `model.safetensors`, `model.onnx` and `MODEL_CARD.md`.

    Args:
        folder: a finished run's.
        head: which generic head; '' for the one that the method is judged by.
        output: where to; None: `export` in the run's folder, where an earlier export of the run is replaced.
        overwrite: whether files that are in `output` may be replaced: perhaps another run's.

    Returns:
        What was written, or why not, a line each.

    Raises:
        UserError: no finished run, files in `output`, no such head, a damaged file, or an ONNX file that answers
            otherwise.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} is not a run's folder: it has no config.json")
    if not (folder / GENERIC).is_file():
        raise UserError(f"{folder}: has no {GENERIC}: the run has not come to its end; continue it with resume=true")
    if output:
        for name in ("model.safetensors", "model.onnx", "MODEL_CARD.md"):
            check_new(output / name, overwrite)
    model = load_trained(folder, head=head)
    output = output or folder / "export"
    experiment = {key: value for key, value in model.experiment.dump().items() if key not in _OF_ONE_MACHINE}
    try:
        output.mkdir(parents=True, exist_ok=True)
        model.save(output / "model.safetensors", experiment)
        onnx = export_onnx(model, output / "model.onnx")
        card = model_card(folder, model, experiment, onnx)
        (output / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    return [f"{output / 'model.safetensors'}", f"{output / 'model.onnx'}: {onnx}", f"{output / 'MODEL_CARD.md'}"]


class Graph(nn.Module):
    """What the ONNX file computes: uint8 images [B, channels, H, W] → probabilities and logits [B, C]."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (probabilities, logits)."""
        logits = self.model.logits(images)
        return self.model.probabilities(logits), logits


def export_onnx(model: TrainedModel, path: Path) -> str:
    """Write the model as ONNX, for batches of any length, and compare its answers with PyTorch's.

    Scaling, mean and standard deviation are inside; images come as uint8 and of the size that the model was
    trained on. The backbone computes in float32.

    Returns:
        How it was checked, or what must be installed first: then there is no file.

    Raises:
        UserError: an answer differs by more than `TOLERANCE`: then there is no file either.
    """
    path.unlink(missing_ok=True)
    if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        return f"left out, it needs more packages: {INSTALL}"
    import onnx  # an extra

    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    graph = Graph(model.to(pick_device("cpu")))
    _plain(model.backbone)
    program = torch.onnx.export(
        graph,
        (_noise(model, 2),),
        dynamo=True,
        input_names=["images"],
        output_names=["probabilities", "logits"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"model": model.about.model_dump_json()})
    part = path.with_suffix(".part")
    onnx.save(proto, part)
    try:
        checked = _check(graph, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return checked


@torch.no_grad()
def _check(graph: Graph, path: Path) -> str:
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    gaps = []
    for images in (_noise(graph.model, 1), _noise(graph.model, 5)):
        found = session.run(None, {"images": images.numpy()})
        for ours, theirs in zip(graph(images), found, strict=True):
            # logits may be large: relative to them where they exceed 1
            gaps.append(np.abs(ours.numpy() - theirs) / np.maximum(1, np.abs(ours.numpy())))
    largest = max(float(gap.max()) for gap in gaps)
    if not all((gap <= TOLERANCE).all() for gap in gaps):  # nan is no agreement either
        raise UserError(f"model.onnx: ONNX Runtime answers {largest:.1e} away from PyTorch: not written; update 'onnx'")
    return f"its answers differ from PyTorch's by {largest:.1e} at most"


def _noise(model: TrainedModel, images: int) -> Tensor:
    shape = (images, model.about.channels, *model.about.size)
    generator = torch.Generator().manual_seed(derive(0, "export"))
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _plain(backbone: nn.Module) -> None:
    """Undo memory format and precision: the graph has neither."""
    body: Any = getattr(backbone, "body", backbone)
    body.tune(channels_last=False, bf16=False)
