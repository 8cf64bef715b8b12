"""Each site's test images: drawn from the common test set with the site's own training distribution."""

from typing import Literal

import numpy as np
import numpy.typing as npt

from common.seeds import numpy_generator

Counts = npt.NDArray[np.int64]


def paper_counts(train_counts: Counts, total_train: int, total_test: int, available: Counts) -> Counts:
    """Return [C] test images ⌊n_kc / N · n_test⌋ of a site, at most what exists; FedLoGe's public code.

    Rare classes vanish: with few images n_kc of a class the product is below one. Integer arithmetic, so that
    a whole product is never cut to the number below it.
    """
    return np.minimum(train_counts * total_test // total_train, available)


def keep_classes_counts(train_counts: Counts, total_train: int, total_test: int, available: Counts) -> Counts:
    """Return [C] test images of a site in proportion to n_kc, at least one of each class it trains on.

    Args:
        train_counts: [C] the site's training images n_kc.
        total_train: training images of all sites, N.
        total_test: images of the common test set, n_test.
        available: [C] images of the common test set.

    The site's share n_kc / N · n_test is scaled by one factor where some class has too few test images
    for it, so that the site's distribution keeps its shape. A class without any test image stays at zero.
    """
    both = (train_counts > 0) & (available > 0)
    if not both.any():
        return np.zeros_like(train_counts)
    wanted = train_counts * (total_test / total_train)
    factor = min(1.0, float((available[both] / wanted[both]).min()))
    counts = np.maximum(np.rint(wanted * factor).astype(np.int64), 1)
    return np.where(both, np.minimum(counts, available), 0)


_FORMS = {"paper": paper_counts, "keep-classes": keep_classes_counts}


def local_test_rows(
    form: Literal["paper", "keep-classes"],
    train_counts: Counts,
    test_labels: npt.NDArray[np.int64],
    site_names: tuple[str, ...],
    seed: int,
) -> tuple[npt.NDArray[np.int64], ...]:
    """Draw every site's test rows, without replacement within a site; sites may share rows.

    Args:
        form: 'paper' or 'keep-classes', see above.
        train_counts: [K, C] training images of each site.
        test_labels: [n_test] classes of the common test set.
        site_names: K names; each site has its own random stream.
        seed: the run's.

    Returns:
        K sorted arrays of rows of the common test set; empty for a site without training images.
    """
    by_class = [np.flatnonzero(test_labels == c) for c in range(train_counts.shape[1])]
    available = np.array([len(rows) for rows in by_class], np.int64)
    total_train = int(train_counts.sum())
    drawn = []
    for name, site_counts in zip(site_names, train_counts, strict=True):
        counts = _FORMS[form](site_counts, total_train, len(test_labels), available)
        generator = numpy_generator(seed, "local-test", name)
        parts = [generator.choice(by_class[c], counts[c], replace=False) for c in np.flatnonzero(counts)]
        drawn.append(np.sort(np.concatenate(parts)) if parts else np.empty(0, np.int64))
    return tuple(drawn)
