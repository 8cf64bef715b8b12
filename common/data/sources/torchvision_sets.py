"""Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision, from a folder in its layout or downloaded."""

from typing import Any

import numpy as np

from common.config import Experiment
from common.data.images.pretrained import interpolation_of
from common.data.images.source import array_images
from common.data.sources.dataset import Dataset, training_moments
from common.errors import UserError

DATASETS = {"fashion-mnist": {"load": "load"}, "cifar10": {"load": "load"}, "cifar100": {"load": "load"}}

# configuration word -> torchvision's class and the folder it makes below the data folder
_SETS = {
    "fashion-mnist": ("FashionMNIST", "FashionMNIST/raw"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
}

# torchvision's words for: not there, not what the checksums say, cut short, no network.
_NOT_WHOLE = (RuntimeError, ValueError, AssertionError, OSError)


def load(experiment: Experiment) -> Dataset:
    """Return one of torchvision's data sets with its official split.

    torchvision unpickles CIFAR's own files, and only after their published checksums agree.

    Raises:
        UserError: neither in the data folder nor to be downloaded.
    """
    train_set, test_set = _parts(experiment)
    fitted = experiment.data.image_size, interpolation_of(experiment)
    train, test = (
        array_images(np.asarray(part.data, np.uint8), np.asarray(part.targets, np.int64), *fitted)
        for part in (train_set, test_set)
    )
    mean, std = training_moments(train)
    return Dataset(experiment.data.dataset, tuple(train_set.classes), train, test, mean, std)


def _parts(experiment: Experiment) -> tuple[Any, Any]:
    from torchvision import datasets  # slow to import, and not every experiment needs it

    class_name, folder = _SETS[experiment.data.dataset]
    make = getattr(datasets, class_name)
    root = experiment.data.root
    try:
        return make(root, train=True, download=False), make(root, train=False, download=False)
    except _NOT_WHOLE:
        pass
    try:
        return make(root, train=True, download=True), make(root, train=False, download=True)
    except _NOT_WHOLE as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{experiment.data.dataset}: not whole in {root / folder}, and the download failed ({reason}); put "
            f"torchvision's files there, or set data-dir to the folder that holds {folder}"
        ) from None
