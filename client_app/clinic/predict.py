"""Answers of a finished model for images of the site's own: probabilities and labels, as a CSV."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common.data.images.source import read_image
from common.data.sources.animations import animation_notes
from common.data.sources.discovery import find_images as images_below
from common.data.sources.discovery import skipped_notes
from common.data.sources.manifest_header import TABLES, read_listed
from common.errors import UserError
from common.files import private_file
from common.markup import csv_text
from common.models.trained import TrainedModel


@dataclass(frozen=True)
class NamedImage:
    """An image to look at: its name in the answer, and its file."""

    name: str
    path: Path


@dataclass(frozen=True)
class Prediction:
    """The answer for one image.

    Attributes:
        image: its name.
        probabilities: [C]; None where the image could not be read.
        labels: the likeliest class; of several labels those whose probability reaches their threshold.
        error: why the image could not be read, or ''.
    """

    image: str
    probabilities: npt.NDArray[np.float32] | None = None
    labels: tuple[str, ...] = ()
    error: str = ""


def find_images(sources: Sequence[Path], note: Callable[[str], None] = lambda line: None) -> list[NamedImage]:
    """List the images of folders (with all below them), of lists (see `read_listed`), and single files, in order.

    Images of a folder are named by their path below it, behind the folder's as it was given where there are several
    folders; those of a CSV as in the CSV, whose folder relative paths start from, behind that folder's where another
    source has the name for another file.

    Args:
        sources: folders, CSVs and files.
        note: takes a line for each folder of which files were skipped, and one for animated images.

    Raises:
        UserError: a source that is not there, without any image, or an archive.
    """
    found: list[NamedImage] = []
    multilabel = sum(source.is_dir() for source in sources) > 1
    for source in sources:
        if source.is_dir():
            below = images_below(source)
            lines = skipped_notes(below.skipped)
            if not below.images:
                raise UserError("; ".join((f"{source}: no image in this folder or below it", *lines)))
            for line in lines:
                note(f"{source}: {line}")
            base = source if multilabel else Path()
            found += [NamedImage((base / path.relative_to(source)).as_posix(), path) for path in below.images]
        elif not source.exists():
            raise UserError(f"{source}: there is no such file or folder")
        elif source.suffix.lower() == ".npz":
            raise UserError(
                f"{source}: is an archive of arrays; give image files, folders of them, or CSVs that list them"
            )
        elif source.suffix.lower() in TABLES:
            _, rows, lines = read_listed(source, strict=False)
            for line in lines:
                note(line)
            found += [NamedImage(row["image"], source.parent / row["image"]) for _, row in rows]
        else:
            found.append(NamedImage(str(source), source))
    for line in animation_notes([image.path for image in found], Path()):
        note(line)
    paths: dict[str, set[Path]] = {}
    for image in found:
        paths.setdefault(image.name, set()).add(image.path)
    return [image if len(paths[image.name]) == 1 else NamedImage(str(image.path), image.path) for image in found]


@torch.no_grad()
def predict(
    model: TrainedModel, images: Sequence[NamedImage], batch: int, thresholds: npt.NDArray[np.float64]
) -> Iterator[Prediction]:
    """Yield the answer for each image, in order; one that cannot be read does not stop the others.

    Args:
        model: personal or generic.
        images: where they are.
        batch: how many to look at together.
        thresholds: [C], used where images may have several labels.
    """
    about = model.about
    for start in range(0, len(images), batch):
        chunk = images[start : start + batch]
        pixels: list[npt.NDArray[np.uint8]] = []
        errors: list[str] = []
        for image in chunk:
            try:
                look = model.experiment.data.depth, about.interpolation
                pixels.append(read_image(image.path, about.channels, about.size, *look))
                errors.append("")
            except UserError as error:
                errors.append(str(error))
        answers = iter(model(torch.from_numpy(np.stack(pixels))).cpu().numpy() if pixels else ())
        for image, trouble in zip(chunk, errors, strict=True):
            if trouble:
                yield Prediction(image.name, error=trouble)
            else:
                probabilities = next(answers)
                yield Prediction(image.name, probabilities, model.labels(probabilities, thresholds))


def write_predictions(
    path: Path, predictions: Iterable[Prediction], model: TrainedModel, thresholds: npt.NDArray[np.float64]
) -> int:
    """Write a CSV, one line an image, and return how many images could not be read.

    Columns: `image`; `predicted`, several labels with | between them; `p:<class>`, the probability of each class;
    `threshold:<class>` where images may have several labels; `error`. Text is as `csv_text` says. The file appears when
    it is complete.

    Raises:
        UserError: the file cannot be written.
    """
    classes, multilabel = model.about.classes, model.about.multilabel
    thresholds_text = [_number(value) for value in thresholds] if multilabel else []
    columns = ["image", "predicted", *(f"p:{name}" for name in classes)]
    columns += [f"threshold:{name}" for name in classes if multilabel] + ["error"]
    unread, part = 0, path.with_name(path.name + ".part")
    try:
        part.unlink(missing_ok=True)
        with private_file(part, newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(map(csv_text, columns))
            for answer in predictions:
                unread += answer.probabilities is None
                shown = [""] * len(classes) if answer.probabilities is None else map(_number, answer.probabilities)
                predicted = csv_text("|".join(answer.labels))
                writer.writerow([csv_text(answer.image), predicted, *shown, *thresholds_text, csv_text(answer.error)])
        part.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another --output") from None
    finally:
        part.unlink(missing_ok=True)
    return unread


def _number(value: Any) -> str:
    return f"{float(value):.9g}"  # a float32 as it is: whoever applies a threshold to it finds the same labels
