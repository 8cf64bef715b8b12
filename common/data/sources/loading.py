"""From the experiment's `dataset` to the module that reads it, once a process."""

from collections.abc import Callable, Set
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from common.config import Experiment
from common.config.rows import attributes_where
from common.data.images.pretrained import interpolation_of
from common.data.sources.checks import checked
from common.data.sources.dataset import Dataset
from common.data_sets import DATA_SETS


def load_dataset(experiment: Experiment) -> Dataset:
    """Return the experiment's data set; read once a process, whatever the seed.

    Composites are made by `build_federation`, of the images that this returns at their own size.

    Raises:
        UserError: missing or malformed data, naming file and place; names of classes or sites that look alike.

    Example:
        >>> from common.config import build
        >>> dataset = load_dataset(build({"dataset": "digits"}))
        >>> dataset.classes[:3], dataset.train.channels, dataset.train.size
        (('0', '1', '2'), 1, (8, 8))
    """
    stored = reduce(experiment, {"look", "images"})
    as_stored = experiment.data.composites or not experiment.data.image_size
    return _load(stored.replace(image_size=None, interpolation=None) if as_stored else stored)


def reduce(experiment: Experiment, decided: Set[str]) -> Experiment:
    """Reset all keys but those that decide the data, so that a cache sees only what matters.

    Args:
        experiment: any.
        decided: what of the data, see `KeyFacts.data`.
    """
    return _reduce(experiment, frozenset(decided), experiment.data.root)


@lru_cache(maxsize=8)
def _reduce(experiment: Experiment, decided: frozenset[str], data_dir: Path) -> Experiment:
    # beside them where this machine has images, and keeps them when they are decoded
    kept = {"image_memory", "image_cache", *attributes_where(lambda facts: facts.data in decided)}
    values = {name: value for name, value in experiment.values().items() if name in kept}
    if "look" in decided:
        values["interpolation"] = interpolation_of(experiment)  # the backbone, which decides it too, is left out
    return Experiment().replace(data_dir=data_dir, **values)


@lru_cache(maxsize=2)
def _load(experiment: Experiment) -> Dataset:
    row = DATA_SETS[experiment.data.dataset]
    read: Callable[[Experiment], Dataset] = getattr(import_module(row.module), row.load)
    return checked(read(experiment))
