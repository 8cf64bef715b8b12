"""Where label-aware attention looks: test images beside the attention of one of their classes."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from server_app.report.analysis import Matrix, class_indices, has_backbone
from server_app.report.blocks import Block, Paragraph, Picture, PictureGroup, Pictures
from server_app.report.charts import shorten
from server_app.report.page import percent
from server_app.report.record import RunRecord, numbers
from server_app.report.words import unrecorded

_HEAT = (213, 94, 0)  # the second of the page's colours
_COVER = 220  # of 255, at full colour
_SIDE = 128  # pixels that a picture takes on the page
_LEAST = 128  # pixels of an overlay's shorter side at least, so that the map is smooth


@dataclass(frozen=True)
class Sample:
    """A test image, and where one of its classes looks.

    Attributes:
        kind: the class.
        labels: all of the image.
        probability: of the class, or None.
        image: the picture.
        attention: [h, w], of sum 1.
    """

    kind: int
    labels: list[int]
    probability: float | None
    image: Image.Image
    attention: npt.NDArray[np.float64]


def attention(run: RunRecord) -> list[Block]:
    """Return the pictures, most frequent classes first; nothing without `report-images`, or attention."""
    if not (run.shows_images and run.uses_attention):
        return []
    samples = _samples(run)
    if not samples:
        return unrecorded(run, "No attention was recorded.") if has_backbone(run) else []
    words = (
        "For some classes, the most frequent and the rarest, one of the coordinator's test images that have the label, "
        "drawn at random, and beside it where the class looks: attention of the final generic model, mean over heads, "
        f"enlarged from {' × '.join(map(str, samples[0].attention.shape))} places. No colour: even attention or less; "
        "full colour: twice that, or the largest there is, which stands above the picture. Below: the probability "
        "of the class, and the image's labels."
    )
    return [Pictures([_group(run, one) for one in samples], words)]


def how_to_ask(run: RunRecord) -> list[Block]:
    """Return how to see where the classes look; nothing where that is shown or a method has no attention."""
    count = len(_samples(run))
    if run.shows_images or not (count or (run.finished and run.uses_attention and has_backbone(run))):
        return []
    kept = f" The folder's analysis.json has {count} all the same: do not hand it on." if count else ""
    return [
        Paragraph(
            "Test images and where the classes look on them are shown where the run is made with report-images=true, "
            f"since they may be of patients.{kept}"
        )
    ]


def image_notice(run: RunRecord) -> str:
    """Return what the top of the page says of the images in it; '' where it has none."""
    if not run.shows_images or not (count := len(_samples(run))):
        return ""
    of = f"the data set '{run.config.get('dataset')}'" if run.config.get("dataset") else "the coordinator"
    return (
        f"This page contains {count} of the test images of {of}, asked for by report-images: true. Where these are of "
        "patients, so is this page, and the folder's analysis.json."
    )


def _samples(run: RunRecord) -> list[Sample]:
    found = run.analysis.get("attention")
    return [s for facts in (found if isinstance(found, list) else []) if (s := _sample(facts, run))]


def _sample(facts: object, run: RunRecord) -> Sample | None:
    """Read a sample; None if something does not fit."""
    if not isinstance(facts, dict):
        return None
    kind, labels = class_indices([facts.get("class")], run), class_indices(facts.get("labels"), run)
    rows: Matrix = [numbers(row) for row in facts["attention"]] if isinstance(facts.get("attention"), list) else []
    known = [[v for v in row if v is not None and v >= 0] for row in rows]
    image = _picture(facts.get("image"))
    if not kind or image is None or not known or len({len(row) for row in known}) != 1 or not any(map(sum, known)):
        return None
    probability = numbers([facts.get("probability")])[0]
    return Sample(kind[0], labels, probability, image, np.array(known))


def _picture(data: object) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(base64.b64decode(str(data), validate=True)), formats=["PNG"])
        return image.convert("L" if image.mode == "L" else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def overlay(image: Image.Image, weights: npt.NDArray[np.float64]) -> Image.Image:
    """Return the image in grey under the weights [h, w], enlarged smoothly.

    Colour begins at their mean and is full at twice the mean, or at their maximum where that is more.
    """
    scale = max(1, -(-_LEAST // min(image.size)))
    size = (image.width * scale, image.height * scale)
    grey = image.convert("L").resize(size, Image.Resampling.NEAREST).convert("RGB")
    excess = weights / weights.mean() - 1
    shares = Image.fromarray((excess / max(1.0, excess.max())).astype(np.float32))
    heat = np.asarray(shares.resize(size, Image.Resampling.BILINEAR))
    cover = Image.fromarray((_COVER * np.clip(heat, 0, 1)).astype(np.uint8))
    return Image.composite(Image.new("RGB", size, _HEAT), grey, cover)


def _group(run: RunRecord, sample: Sample) -> PictureGroup:
    name, group = run.classes[sample.kind], run.group_of.get(sample.kind, "")
    label = f"test image of class {name}"
    chance = "" if sample.probability is None else f"{percent(sample.probability)}; "
    labels = ", ".join(run.classes[c] for c in sample.labels)
    return PictureGroup(
        title=shorten(name, 18) + (f" ({group})" if group else ""),
        aside=f"{sample.attention.max() / sample.attention.mean():.1f} ×",
        pictures=[
            _png(sample.image, label),
            _png(overlay(sample.image, sample.attention), f"attention on the {label}"),
        ],
        words=shorten(f"{chance}labels: {labels}", 76),
    )


def _png(image: Image.Image, label: str) -> Picture:
    file = io.BytesIO()
    image.save(file, "PNG")
    return Picture(base64.b64encode(file.getvalue()).decode("ascii"), label, crisp=max(image.size) < _SIDE)
