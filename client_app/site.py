"""One site as this process sees it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.data import Federation, label_counts


@dataclass(frozen=True)
class Site:
    """One site as this process sees it: whose data, where its state is kept."""

    name: str
    federation: Federation
    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]
    visible: npt.NDArray[np.bool_] | None = None  # classes [C] whose labels the site knows; None: all

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Classes [C] that the site has training images of."""
        dataset = self.federation.dataset
        counts = label_counts(dataset.train.labels[self.train_rows], len(dataset.classes))
        return np.asarray(counts > 0)
