"""Each site's test images where an image may carry several labels: every test image goes to one site at most."""

import numpy as np
import numpy.typing as npt

from common.data.federation.multilabel_partition import MultilabelPartition, Rule
from common.seeds import numpy_generator

Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]


def site_chances(
    train_labels: Flags, test_labels: Flags, part: MultilabelPartition, rule: Rule
) -> npt.NDArray[np.float64]:
    """Return [n_test, K] the chance of each site to get each test image; zeros where no site may have it.

    A site's chance is in proportion to the mean, over the image's labels, of the share n_kc / n_c of that
    label's visible training positives that the site holds; of an image without labels, to the site's share of such
    training images. Sites that the rule would not give the image for training get none: under `strict` those that
    do not support all its labels, under `mask` those that support none.

    Args:
        train_labels: bool [N, C] of all training images.
        test_labels: bool [n_test, C].
        part: the partition of the training images.
        rule: what it was made by.
    """
    trained = np.stack([_with_none(train_labels[rows]).sum(axis=0) for rows in part.rows])  # [K, C + 1]
    trained[:, :-1] *= part.visible
    shares = trained / np.maximum(trained.sum(axis=0), 1)
    carried = test_labels.sum(axis=1, keepdims=True)
    supported = test_labels.astype(np.int64) @ part.supports.T
    allowed = supported == carried if rule == "strict" else (supported > 0) | (carried == 0)
    chances = np.where(allowed, _with_none(test_labels) @ shares.T, 0.0)
    return np.asarray(chances / np.maximum(chances.sum(axis=1, keepdims=True), np.finfo(float).tiny))


def multilabel_test_rows(
    train_labels: Flags, test_labels: Flags, part: MultilabelPartition, rule: Rule, seed: int
) -> tuple[Rows, ...]:
    """Deal the test images to the sites by `site_chances`; K sorted arrays, no row at two sites.

    An image that no site may have, or whose labels no site trains on, is left to the coordinator's test alone.
    """
    chances = site_chances(train_labels, test_labels, part, rule)
    drawn = numpy_generator(seed, "local-test").random((len(chances), 1))
    ends = chances.cumsum(axis=1)
    site_of = (drawn * ends[:, -1:] >= ends).sum(axis=1)  # K for an image without a site
    return tuple(np.flatnonzero(site_of == site) for site in range(len(part.rows)))


def _with_none(labels: Flags) -> npt.NDArray[np.int64]:
    """Return [N, C + 1]: the labels, and whether there is none."""
    return np.hstack([labels, ~labels.any(axis=1, keepdims=True)]).astype(np.int64)
