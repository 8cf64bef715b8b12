"""FedRidge on the coordinator: a class-balanced head, and what sites solve their personal heads of (ours).

W = (Σ_c w_c G_c + λI)⁻¹ Σ_c w_c b_c with w_c = (N/(C n_c))^τ, see `common/closed_form/ridge.py`.
"""

import numpy as np

from common.closed_form.sums import packed_half
from common.methods.fedridge import FedRidgeOptions
from common.wire import Arrays
from server_app.methods.fed3r import SolvedHead


class BalancedHead(SolvedHead):
    """Solves the head with classes that weigh the same."""

    @property
    def balance(self) -> float:
        """`ridge-balance`."""
        return FedRidgeOptions.of(self.experiment).ridge_balance

    def personal_sums(self) -> Arrays:
        """Return the weighted sums of all sites, upper halves, with their weights and λ; nothing before any came."""
        if not self._sums:
            return {}
        pooled = self.pooled()
        return {
            "pooled_gram": np.stack([packed_half(of.gram) for of in pooled.equations]),
            "pooled_moments": np.concatenate([of.moments.numpy() for of in pooled.equations]),
            "group_weights": pooled.weights,
            "strengths": np.array(pooled.strengths),
        }


METHOD = BalancedHead
