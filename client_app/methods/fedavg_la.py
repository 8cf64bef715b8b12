"""FedAvg with logit adjustment (Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314), Eq. 10.

Shared: backbone and head. Personal: nothing. The training loss is CE(z + τ log n_k, y) with the site's own
class counts n_k as prior (with τ = 1 the balanced softmax of Ren et al., NeurIPS 2020); predictions use z
alone. A class that a site does not have gets a logit of −∞, hence no gradient there.
Defaults: τ is `logit-adjustment`, 1, the value that the paper derives; it also tunes it.
"""

from torch import Tensor

from client_app.methods.base import LocalContext
from client_app.methods.fedavg import FedAvg
from common.methods.shared_options import AdjustmentOptions
from common.models.model import Model


class LogitAdjustment(FedAvg):
    """Cross-entropy of logits shifted by the site's prior."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(ψ(θ(x)) + τ log n_k, y)."""
        logits = self.personal_head(model)(model(images))
        prior = (
            local.class_counts ** AdjustmentOptions.of(local.experiment).logit_adjustment
        ).log()  # τ log n_k; 0 for τ = 0
        return {"backbone": local.loss(logits + prior, labels)}


METHOD = LogitAdjustment()
