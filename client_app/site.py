"""One site as this process sees it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data import Federation


@dataclass(frozen=True)
class Site:
    """One site as this process sees it: whose data, where its state is kept."""

    name: str
    federation: Federation
    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Classes [C] that the site has training images of."""
        labels = self.federation.dataset.train.labels[self.train_rows]
        return np.bincount(labels, minlength=len(self.federation.dataset.classes)) > 0
