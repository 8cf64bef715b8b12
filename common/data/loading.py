"""From the experiment's `dataset` to the module that reads it, once a process."""

from collections.abc import Callable
from functools import lru_cache

from common.config import Experiment
from common.data import chestxray14, coco2017, digits, folder, lists, manifest, npz, torchvision_sets, voc2012
from common.data.dataset import Dataset

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

DATASET_FIELDS = ("dataset", "image_size", "site_key", "group_key")


def load_dataset(experiment: Experiment) -> Dataset:
    """Return the experiment's data set; read once a process, whatever the seed.

    Composites are made by `build_federation`, of the images that this returns at their own size.

    Raises:
        UserError: missing or malformed data, naming file and place.
    """
    stored = reduce(experiment, DATASET_FIELDS)
    return _load(stored.model_copy(update={"image_size": None}) if experiment.composites else stored)


def reduce(experiment: Experiment, fields: tuple[str, ...]) -> Experiment:
    """Keep the data folder and these fields and reset the others, so that a cache sees only what matters."""
    kept = {name: getattr(experiment, name) for name in fields}
    return Experiment.model_construct(data_dir=experiment.data_root, **kept)


@lru_cache(maxsize=2)
def _load(experiment: Experiment) -> Dataset:
    return _LOADERS[experiment.dataset](experiment)
