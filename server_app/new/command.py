"""`fednc new`: from images to an experiment, in the order in which a person would look."""

import re
import shlex
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.architectures import IMAGENET, NO_WEIGHTS
from common.config import build, load
from common.data import Dataset, label_counts
from common.data.images.bad_images import BadImagesError
from common.data.sources.loading import load_dataset
from common.errors import UserError
from common.files import check_new, write_text
from common.methods import methods_for
from common.models.model import pick_device
from server_app.checks.feasibility import check_feasible
from server_app.new import choose
from server_app.new.choose import Choice, Choices
from server_app.new.look import look_at_sizes
from server_app.new.pretrained import Pretrained, choose_start
from server_app.new.recognise import recognise
from server_app.new.write import as_yaml, described

_KEPT = ("learning-rate", "momentum", "weight-decay", "precision", "seed", "device")  # defaults that people look for
_SAID = ("method", "partition", "sites", "image-size", "backbone", "weights", "train-from", "batch-size", "rounds")


def new_experiment(
    data: Path,
    output: Path | None = None,
    overwrite: bool = False,
    skip_bad_images: int = 0,
    weights: str | None = None,
) -> list[str]:
    """Write an experiment on someone's own images, complete and commented, that runs as it is.

    Args:
        data: a folder of images, a CSV that lists them, or an .npz archive.
        output: the file; default: `<name of the data>.yaml` in this folder.
        overwrite: whether a file that is there may be replaced.
        skip_bad_images: how many images that cannot be read may be left out.
        weights: imagenet, none, a file, or run:FOLDER; None: ImageNet's where images are large enough.

    Returns:
        Lines for the person: what was found, what was chosen and why, and the commands that come next.

    Raises:
        UserError: no images, labels that cannot be learned from, images that cannot be read, weights that fit nothing,
            or a file that is there already.
    """
    path = output or Path(f"{_name(data)}.yaml")
    check_new(path, overwrite)
    keys = recognise(data)
    device = pick_device("auto")
    sizes = look_at_sizes(keys)
    start = choose_start(weights, sizes, device)
    size = choose.choose_size(sizes, device, start)
    depth = Choice("percentile", described("depth"))
    skip = Choice(skip_bad_images, described("skip-bad-images"))
    try:
        dataset = load_dataset(build(keys | _values({"image-size": size, "skip-bad-images": skip}), source=str(data)))
    except BadImagesError as bad:
        raise UserError(f"{bad}; here: fednc new … --skip-bad-images {len(bad.failures)}") from None
    images = {"image-size": size, "skip-bad-images": skip, "depth": depth}
    choices = _choices(keys, images, dataset, device, start)
    found, methods = _found(data, dataset), methods_for(dataset.multilabel)
    noted = (*dataset.notes, *_one_each(dataset))
    text = as_yaml([*found, *noted], choices, methods, str(path))
    _check(text, path.name)
    _write(path, text)
    notes = [f"note: {note}" for note in noted]
    wrote = [f"wrote {path}; look at it, then", f"  fednc run {shlex.quote(str(path))}"]
    return [*found, *notes, *_chosen(choices), *wrote]


def _chosen(choices: Choices) -> list[str]:
    """Return a line for each choice that decides what the run is."""
    of = {key: choices[key] for key in _SAID if key in choices}
    values = {key: "not set" if choice.value is None else f"= {choice.value}" for key, choice in of.items()}
    return [f"{key} {values[key]}: {choice.why}" for key, choice in of.items()]


def _choices(
    keys: Mapping[str, Any], images: Choices, dataset: Dataset, device: torch.device, start: Pretrained | None
) -> Choices:
    data = {key: Choice(value, _REASONS.get(key, described(key))) for key, value in keys.items()} | images
    model, method, sites = (
        choose.choose_model(dataset, device, start),
        choose.choose_method(dataset, start),
        choose.choose_sites(dataset),
    )
    number = sites["sites"].value if "sites" in sites else len(dataset.site_names)
    so_far = {key: value for key, value in _values(data | sites | model | method).items() if key != "tuned"}
    training = choose.choose_training(so_far, dataset, number, device, start)
    augment = {"augment": Choice("none", "flip, crop-flip: where a mirrored image means the same")}
    defaults = build({})
    kept = {key: Choice(defaults.dump()[key], described(key)) for key in _KEPT}
    personal = {"finetune-epochs": Choice(0, described("finetune-epochs"))}
    report = {"report-images": Choice(False, described("report-images"))}
    others = augment | kept | personal | report
    return data | sites | model | method | training | {key: others[key] for key in others if key not in training}


_REASONS = {
    "dataset": "how the images are stored",
    "data-dir": "where they are",
    "site-key": "the array that names each image's site",
    "group-key": "the array that names each image's patient or lesion",
}


def _values(choices: Mapping[str, Choice]) -> dict[str, Any]:
    return {key: choice.value for key, choice in choices.items() if choice.value is not None}


def _found(data: Path, dataset: Dataset) -> list[str]:
    """Return lines that say what the images are."""
    counts = label_counts(dataset.train.labels, len(dataset.classes))
    labels = "several labels an image, or none" if dataset.multilabel else "one label an image"
    colour = "grey" if dataset.train.channels == 1 else "colour"
    patients = (
        "" if dataset.train_groups is None else f", {len(set(dataset.train_groups.tolist()))} patients to train on"
    )
    order = counts.argsort(kind="stable")[::-1]
    shown = ", ".join(f"{dataset.classes[c]} {counts[c]}" for c in order[:12])
    more = f", … and {len(order) - 12} more, down to {counts.min()}" if len(order) > 12 else ""
    return [
        f"{data.resolve().name}: {len(dataset.train)} training and {len(dataset.test)} test images, {colour}, "
        f"{labels}{patients}",
        f"{len(dataset.classes)} classes, by training images: {shown}{more}",
    ]


def _one_each(dataset: Dataset) -> tuple[str, ...]:
    """Return a note where images might have several labels and each has one: they are perhaps one-hot."""
    if not dataset.multilabel or any((part.labels.sum(axis=1) != 1).any() for part in (dataset.train, dataset.test)):
        return ()
    return (
        "every image has one label exactly, in columns of 0 and 1: taken as several labels an image; where the classes "
        "exclude each other, store the class of each image instead (a column 'label', or y_train [N])",
    )


def _name(data: Path) -> str:
    stem = data.resolve().stem if data.is_file() else data.resolve().name
    return re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "experiment"


def _write(path: Path, text: str) -> None:
    try:
        write_text(path, text)
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); give another --output") from None


def _check(text: str, name: str) -> None:
    """Read the file as `fednc run` will, and deal the images to the sites: nothing is written that does not run.

    Nothing is fetched: that is for the first run.
    """
    with tempfile.TemporaryDirectory(prefix="fednc-") as folder:
        path = Path(folder) / name
        write_text(path, text)
        experiment = load(str(path), {}, base=Path.cwd())
        fetched = experiment.model.weights == IMAGENET
        check_feasible(experiment.replace(weights=NO_WEIGHTS) if fetched else experiment)
