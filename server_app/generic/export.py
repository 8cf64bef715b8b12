"""A run's generic model for use elsewhere: safetensors, ONNX, and a card that says what it is."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from common.config import portable
from common.config.rows import keys_where
from common.errors import UserError, one_line
from common.files import check_new, private_file, private_folder, write_text
from common.models.model import pick_device
from common.models.trained import GENERIC, TrainedModel, load_trained
from common.seeds import derive
from server_app.generic.model_card import model_card

TOLERANCE = 1e-4  # of ONNX Runtime's answers against PyTorch's
INSTALL = "pip install 'fednc[onnx]'"

_LONGEST = 300  # letters of an exporter's own words


@dataclass(frozen=True)
class Onnx:
    """What became of the ONNX file.

    Attributes:
        note: for the card: how it was checked, or why there is none; it names no folder of this machine.
        trouble: for the person who exports: what failed, where something did; the other files are written all the same.
    """

    note: str
    trouble: str = ""


def export(folder: Path, head: str = "", output: Path | None = None, overwrite: bool = False) -> tuple[list[str], str]:
    """Write `model.safetensors`, `MODEL_CARD.md`, and `model.onnx` where it can be had.

    Args:
        folder: a finished run's.
        head: which generic head; '' for the one that the method is judged by.
        output: where to; None: `export` in the run's folder, where an earlier export of the run is replaced.
        overwrite: whether files that are in `output` may be replaced: perhaps another run's.

    Returns:
        What was written, or left out and why, a line each; and what went wrong with the ONNX file, or ''.

    Raises:
        UserError: no finished run, files in `output`, no such head, a damaged file, or a folder that cannot be written:
            then nothing of use was.
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
    machine = keys_where(lambda facts: facts.machine)
    experiment = {k: v for k, v in portable(model.experiment.dump()).items() if k not in machine}
    try:
        private_folder(output)
        model.save(output / "model.safetensors", experiment)
        onnx = export_onnx(model, output / "model.onnx")
        card = model_card(folder, model, experiment, onnx.note)
        write_text(output / "MODEL_CARD.md", card)
    except OSError as error:
        raise UserError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
    lines = [f"{output / 'model.safetensors'}", f"{output / 'model.onnx'}: {onnx.note}", f"{output / 'MODEL_CARD.md'}"]
    return lines, onnx.trouble


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


def export_onnx(model: TrainedModel, path: Path) -> Onnx:
    """Write the model as ONNX, for batches of any length, and compare its answers with PyTorch's.

    Scaling, mean and standard deviation are inside; images come as uint8 and of the size that the model was
    trained on. The backbone computes in float32.

    Without its packages, where the exporter fails, or where an answer differs by more than `TOLERANCE`, there is no
    file afterwards, and the note says why.
    """
    path.unlink(missing_ok=True)
    if not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))):
        return Onnx(f"left out, it needs more packages: {INSTALL}")
    part = path.with_suffix(".part")
    try:
        graph = Graph(model.to(pick_device("cpu")))
        _write(graph, part)
        gap = _largest_gap(graph, part)
        if not gap <= TOLERANCE:  # nan is no agreement either
            away = f"ONNX Runtime answers {gap:.1e} away from PyTorch"
            return Onnx(f"not written: {away}", f"model.onnx: {away}: not written; update 'onnx' and 'onnxruntime'")
        part.replace(path)
        return Onnx(f"its answers differ from PyTorch's by {gap:.1e} at most")
    except Exception as error:  # the exporter and ONNX Runtime raise many kinds; the model itself is safe
        cause = _first_cause(error)
        why = f"{type(cause).__name__}: {one_line(str(cause), _LONGEST)}"
        return Onnx(
            f"not written: its exporter failed ({type(cause).__name__})",
            f"model.onnx: not written: {why}; the other files are complete; another version of torch or onnxscript "
            "may export it",
        )
    finally:
        part.unlink(missing_ok=True)


def _write(graph: "Graph", path: Path) -> None:
    """Trace the graph and write it, without what the exporter notes of this machine's folders."""
    import onnx  # an extra

    model = graph.model
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
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
    _forget_notes(proto)
    onnx.helper.set_model_props(proto, {"model": model.about.model_dump_json()})
    private_file(path).close()  # its mode stays
    onnx.save(proto, path)


def _forget_notes(message: Any) -> None:
    """Clear the notes of an ONNX message and of all inside it: stack traces with the folders of the exporter."""
    for name in ("doc_string", "metadata_props"):
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if isinstance(value, Iterable) else (value,):
                _forget_notes(inner)


def _first_cause(error: BaseException) -> BaseException:
    """Return what began a chain of errors: an exporter wraps it in advice on how to report it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


@torch.no_grad()
def _largest_gap(graph: Graph, path: Path) -> float:
    """Return by how much ONNX Runtime's answers differ from PyTorch's at most; nan where one is nan."""
    import onnxruntime  # an extra

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    gaps = []
    for images in (_noise(graph.model, 1), _noise(graph.model, 5)):
        found = session.run(None, {"images": images.numpy()})
        for ours, theirs in zip(graph(images), found, strict=True):
            # logits may be large: relative to them where they exceed 1
            gaps.append((np.abs(ours.numpy() - theirs) / np.maximum(1, np.abs(ours.numpy()))).max())
    return float(np.max(gaps))  # unlike Python's max, it keeps nan


def _noise(model: TrainedModel, images: int) -> Tensor:
    shape = (images, model.about.channels, *model.about.size)
    generator = torch.Generator().manual_seed(derive(0, "export"))
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _plain(backbone: nn.Module) -> None:
    """Undo memory format and precision: the graph has neither."""
    body: Any = getattr(backbone, "body", backbone)
    body.set_format(channels_last=False, precision="fp32")
