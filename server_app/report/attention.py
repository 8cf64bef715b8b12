"""Where label-aware attention looks: test images beside the attention of one of their classes."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from common.markup import escape_html as escape
from server_app.report.analysis import Matrix, class_indices
from server_app.report.axes import svg, text
from server_app.report.charts import WIDTH, shorten
from server_app.report.page import figure, paragraph, percent
from server_app.report.record import RunRecord, numbers

_HEAT = (213, 94, 0)  # the second of the page's colours
_COVER = 220  # of 255, at full colour
_SIDE = 128.0  # pixels that a picture takes
_COLUMNS = 3
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


def attention(run: RunRecord) -> str:
    """Return the pictures, most frequent classes first; without `report-images`, how to ask for them."""
    samples = _samples(run)
    if not run.shows_images:
        kept = f" The folder's analysis.json has {len(samples)} all the same: do not hand it on." if samples else ""
        return paragraph(
            "Test images and where the classes look on them are shown where the run is made with report-images=true, "
            f"since they may be of patients.{kept}"
        )
    if not samples:
        return paragraph("No attention was recorded.")
    words = (
        "For some classes, the most frequent and the rarest, one of the coordinator's test images that have the label, "
        "drawn at random, and beside it where the class looks: attention of the final generic model, mean over heads, "
        f"enlarged from {' × '.join(map(str, samples[0].attention.shape))} places. No colour: even attention or less; "
        "full colour: twice that, or the largest there is, which stands above the picture. Below: the probability "
        "of the class, and the image's labels."
    )
    return figure(_grid(run, samples), words)


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


def _grid(run: RunRecord, samples: list[Sample]) -> str:
    step, row = WIDTH / _COLUMNS, _SIDE + 62
    parts = []
    for i, one in enumerate(samples):
        left, top = (i % _COLUMNS) * step, (i // _COLUMNS) * row
        group = run.group_of.get(one.kind, "")
        name = shorten(run.classes[one.kind], 18) + (f" ({group})" if group else "")
        parts.append(text(left, top + 14, name, "start", "name"))
        peak = one.attention.max() / one.attention.mean()
        parts.append(text(left + 2 * _SIDE + 6, top + 14, f"{peak:.1f} ×", "end"))
        label = f"test image of class {run.classes[one.kind]}"
        parts.append(_image(one.image, left, top + 20, label))
        parts.append(_image(overlay(one.image, one.attention), left + _SIDE + 6, top + 20, f"attention on the {label}"))
        chance = "" if one.probability is None else f"{percent(one.probability)}; "
        labels = shorten(chance + "labels: " + ", ".join(run.classes[c] for c in one.labels), 38)
        parts.append(text(left, top + _SIDE + 36, labels, "start"))
    rows = -(-len(samples) // _COLUMNS)
    return svg(parts, WIDTH, rows * row, "Test images, and where each one's class looks")


def _image(image: Image.Image, left: float, top: float, label: str) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    crisp = ' style="image-rendering:pixelated"' if max(image.size) < _SIDE else ""
    box = f'x="{left:g}" y="{top:g}" width="{_SIDE:g}" height="{_SIDE:g}"{crisp}'
    return f'<image {box} href="data:image/png;base64,{data}"><title>{escape(label)}</title></image>'
