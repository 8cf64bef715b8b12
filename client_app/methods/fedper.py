"""FedPer (Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818), Algorithm 1.

Shared: backbone (the base layers). Personal: head (the personalisation layer). Loss: CE(φ_k(θ(x)), y); both train
together. The method has no generic model: the global weights have no head.
Defaults: no keys of its own; one personal layer, the least of those that the paper compares.
"""

from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod
from common.models.model import Model


class FedPer(LocalMethod):
    """Cross-entropy of the shared backbone under the site's own head."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(φ_k(θ(x)), y), which trains θ and φ_k."""
        return {"backbone": local.loss(self.personal_head(model)(model(images)), labels)}

    def personal_head(self, model: Model) -> nn.Linear:
        """Return φ_k."""
        assert model.personal_head is not None
        return model.personal_head


METHOD = FedPer()
