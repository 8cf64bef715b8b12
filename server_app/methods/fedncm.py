"""FedNCM on the coordinator (Legate et al., NeurIPS 2023, https://arxiv.org/abs/2306.03937).

w_c = μ_c/‖μ_c‖ with μ_c the mean feature of class c over all sites, no bias: the class whose mean has the largest
cosine with a feature, which is also the nearest of the w_c. So do the authors' experiments; a class that nobody has
gets w_c = 0.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from common.closed_form.class_means import counts_of, fault_of, means_of
from common.closed_form.sums import Packed
from common.wire import Arrays
from server_app.methods.fed3r import SolvedHead, as_head


class ClassMeans(SolvedHead):
    """Adds up sums of features by class, and makes the head of their means."""

    extra = "class_sums"
    has_bias = False

    def shapes(self, broadcast: Arrays) -> dict[str, tuple[int, ...]]:
        """Return [C, d + 1] for the sums."""
        return {self.extra: (self.num_classes, broadcast["aux_head.weight"].shape[1] + 1)}

    def fault(self, sums: Packed) -> str | None:
        """Return why these can be no sums of a site, None if they can."""
        return fault_of(sums, self._range)

    def counts(self, sums: Packed) -> npt.NDArray[np.int64]:
        """Return the images of each class [C] in sums."""
        return counts_of(sums, self._range)

    def solve(self, *, bias: bool) -> tuple[Arrays, dict[str, Any]]:
        """Return the normalised class means of all sums that are here, with a bias of 0 or without it, and of what."""
        means = means_of(self._added(), self._range)
        norms = np.linalg.norm(means, axis=1, keepdims=True)
        vectors = np.divide(means, norms, out=np.zeros_like(means), where=norms > 0)
        return as_head(np.pad(vectors, ((0, 0), (0, 1))).astype(np.float32), bias=bias), self.facts()


METHOD = ClassMeans
