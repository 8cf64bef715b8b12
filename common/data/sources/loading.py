"""From the experiment's `dataset` to the module that reads it, once a process."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from common.config import Experiment
from common.data.sources import chestxray14, coco2017, digits, folder, lists, manifest, npz, torchvision_sets, voc2012
from common.data.sources.checks import checked
from common.data.sources.dataset import Dataset
from common.fields import DATASET_FIELDS, MACHINE_FIELDS

_LOADERS: dict[str, Callable[[Experiment], Dataset]] = {
    "digits": digits.load,
    "fashion-mnist": torchvision_sets.load,
    "cifar10": torchvision_sets.load,
    "cifar100": torchvision_sets.load,
    "image-folder": folder.load,
    "npz": npz.load,
    "imagenet-lt": lists.load_imagenet_lt,
    "inaturalist": lists.load_inaturalist,
    "chestxray14": chestxray14.load,
    "voc2012": voc2012.load,
    "coco2017": coco2017.load,
    "manifest": manifest.load,
}


def load_dataset(experiment: Experiment) -> Dataset:
    """Return the experiment's data set; read once a process, whatever the seed.

    Composites are made by `build_federation`, of the images that this returns at their own size.

    Raises:
        UserError: missing or malformed data, naming file and place; names of classes or sites that look alike.
    """
    stored = reduce(experiment, DATASET_FIELDS)
    return _load(stored.model_copy(update={"image_size": None}) if experiment.composites else stored)


def reduce(experiment: Experiment, fields: tuple[str, ...]) -> Experiment:
    """Keep these fields and the machine's folders and reset the others, so that a cache sees only what matters."""
    return _reduce(experiment, fields, experiment.data_root)


@lru_cache(maxsize=8)
def _reduce(experiment: Experiment, fields: tuple[str, ...], data_dir: Path) -> Experiment:
    kept = {name: getattr(experiment, name) for name in (*fields, *MACHINE_FIELDS)}
    return Experiment.model_construct(data_dir=data_dir, **kept)


@lru_cache(maxsize=2)
def _load(experiment: Experiment) -> Dataset:
    return checked(_LOADERS[experiment.dataset](experiment))
