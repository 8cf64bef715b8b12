"""scikit-learn's handwritten digits: 1,797 grey 8×8 images, embedded, no network needed."""

import numpy as np

from common.config import Experiment
from common.data.images.pretrained import interpolation_of
from common.data.images.source import array_images
from common.data.sources.dataset import Dataset, training_moments
from common.seeds import numpy_generator

DATASETS = {"digits": {"load": "load"}}

_TEST_PER_CLASS = 30


def load(experiment: Experiment) -> Dataset:
    """Return the digits with 30 test images a class; the set has no official split.

    The test images are the same for every seed, so that runs of different seeds can be compared.
    """
    from sklearn.datasets import load_digits  # slow to import, and only needed here

    digits = load_digits()
    x = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    y = digits.target.astype(np.int64)
    generator = numpy_generator(0, "digits-test")
    drawn = [generator.choice(np.flatnonzero(y == c), _TEST_PER_CLASS, replace=False) for c in range(10)]
    test_rows = np.sort(np.concatenate(drawn))
    train_rows = np.setdiff1d(np.arange(len(y)), test_rows)
    fitted = experiment.data.image_size, interpolation_of(experiment)
    train = array_images(x[train_rows], y[train_rows], *fitted)
    test = array_images(x[test_rows], y[test_rows], *fitted)
    mean, std = training_moments(train)
    return Dataset("digits", tuple(str(c) for c in range(10)), train, test, mean, std)
