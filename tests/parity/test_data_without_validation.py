"""Without a validation split, a federation is the long tail, the partition and the local test, one after the other."""

import numpy as np
import pytest

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.data.federation import partition
from common.data.federation.build import count_classes
from common.data.federation.local_split import local_test_rows
from common.data.federation.longtail import long_tail_rows


@pytest.mark.parametrize("given", [{}, {"evaluate_on": "test"}, {"evaluate_on": "test", "validation_share": 0.5}])
@pytest.mark.parametrize("seed", [0, 3])
def test_measuring_test_images_changes_no_row(given: dict[str, str], seed: int) -> None:
    experiment = Experiment(sites=6, imbalance_factor=10, dirichlet=0.5, seed=seed, **given)
    federation = build_federation(experiment)
    dataset = load_dataset(experiment)
    assert federation.dataset is dataset
    rows = long_tail_rows(dataset.train.labels, dataset.classes, None, 10, seed)
    dealt = partition.dirichlet(rows, dataset.train.labels[rows], 6, 0.5, 1, seed)
    counts = count_classes(dealt, dataset.train.labels, 10)
    tests = local_test_rows("keep-classes", counts, dataset.test.labels, federation.site_names, seed)
    for found, expected in ((federation.train_rows, dealt), (federation.test_rows, tests)):
        assert len(found) == len(expected) == 6
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))
