"""Ratio Loss (Wang et al., AAAI 2021, https://arxiv.org/abs/2008.06217).

Shared: backbone and head. Personal: nothing. Loss: the batch mean of (α + β R_y) · CE(ψ(θ(x)), y); the ratios R are
the coordinator's, which probes the global model with a few auxiliary images of each class and sends the weights
(`server_app/methods/ratio_loss.py` has their equation).
Defaults: α and β are `ratio-alpha` and `ratio-beta`, 1 and .1 in the paper; `ratio-images` 64 a class, as its code;
`ratio-cap` 100, ours.
"""

from torch import Tensor
from torch.nn.functional import cross_entropy

from client_app.methods.base import LocalContext
from client_app.methods.fedavg import FedAvg
from common.models.model import Model


class RatioLoss(FedAvg):
    """Cross-entropy with the coordinator's class weights."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the batch mean of (α + β R_y) · CE(ψ(θ(x)), y)."""
        weights, logits = model.class_weights, self.personal_head(model)(model(images))
        assert weights is not None

        def loss(labels: Tensor) -> Tensor:
            return (weights[labels] * cross_entropy(logits, labels, reduction="none")).mean()

        return {"backbone": local.of_labels(loss, labels)}


METHOD = RatioLoss()
