"""An exponential long tail: class sizes fall from the first class to the last by the imbalance factor."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from common.errors import UserError
from common.seeds import numpy_generator


def long_tail_counts(
    available: npt.NDArray[np.int64], head_class_size: int | None, imbalance_factor: float
) -> npt.NDArray[np.int64]:
    """Return [C] images to keep of each class: n_c = ⌊n_max · IF^(−c/(C−1))⌋ (Cui et al., CVPR 2019).

    Args:
        available: [C] images there are; no class keeps more.
        head_class_size: n_max; None: the largest class's count.
        imbalance_factor: IF ≥ 1, largest over smallest class. 1 without `head_class_size`: all images stay.

    Example:
        >>> import numpy as np
        >>> long_tail_counts(np.array([100, 100, 100]), None, 100.0).tolist()
        [100, 10, 1]
    """
    if imbalance_factor == 1 and head_class_size is None:
        return available.copy()
    head = head_class_size or int(available.max())
    last = max(1, len(available) - 1)
    wanted = [int(head * imbalance_factor ** (-c / last)) for c in range(len(available))]
    return np.minimum(np.array(wanted, np.int64), available)


def long_tail_rows(
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
    head_class_size: int | None,
    imbalance_factor: float,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Return the sorted rows that stay; which ones of a class is drawn from the seed.

    Args:
        labels: [N] class indices.
        classes: C names.
        head_class_size: see `long_tail_counts`.
        imbalance_factor: see `long_tail_counts`.
        seed: the run's.

    Raises:
        UserError: the tail would lose a class altogether.
    """
    available = np.bincount(labels, minlength=len(classes)).astype(np.int64)
    counts = long_tail_counts(available, head_class_size, imbalance_factor)
    lost = np.flatnonzero((counts == 0) & (available > 0))
    if len(lost):
        raise UserError(
            f"imbalance-factor = {imbalance_factor:g} leaves no image of class '{classes[lost[0]]}' when the "
            f"largest class has {counts.max()}; lower it, or raise head-class-size"
        )
    generator = numpy_generator(seed, "longtail")
    kept = [generator.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(counts)]
    return np.sort(np.concatenate(kept))
