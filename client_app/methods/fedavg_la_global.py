"""FedAvg with logit adjustment by the global prior (Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314), Eq. 10.

Shared: backbone and head. Personal: nothing. The training loss is CE(z + τ log n_c, y) with the class counts n_c
of all sites that have answered so far, which the coordinator adds up and sends; predictions use z alone. Until
it knows any, the prior is even. What leaves a site beside weights: its class counts.
Defaults: τ is `logit-adjustment`, 1, the value that the paper derives; it also tunes it.
"""

import numpy as np
from torch import Tensor

from client_app.methods.base import LocalContext, OwnImages
from client_app.methods.fedavg import FedAvg
from common.methods.shared_options import AdjustmentOptions
from common.models.model import Model
from common.wire import Arrays


class GlobalLogitAdjustment(FedAvg):
    """Cross-entropy of logits shifted by the federation's prior."""

    def extras(self, model: Model, images: OwnImages, local: LocalContext) -> Arrays:
        """Return the site's class counts [C]."""
        labels = images.dataset.train.labels[images.rows]
        counts = np.bincount(labels, minlength=len(images.dataset.classes))
        return {"class_counts": counts.astype(np.float32)}

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(ψ(θ(x)) + τ log n, y)."""
        assert model.class_weights is not None
        logits = self.personal_head(model)(model(images))
        prior = (model.class_weights ** AdjustmentOptions.of(local.experiment).logit_adjustment).log()
        return {"backbone": local.loss(logits + prior, labels)}


METHOD = GlobalLogitAdjustment()
