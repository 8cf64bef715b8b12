"""FedROD (Chen and Chao, ICLR 2022, https://arxiv.org/abs/2107.00778), Section 4.

Shared: backbone θ and generic head ψ, trained by balanced softmax with the site's class counts, CE(z + log n_k, y) with
z = ψ(θ(x)). Personal: a head φ_k on detached features that learns what the generic logits lack by plain
cross-entropy, CE(z + φ_k(θ(x)), y) with z detached; the personal prediction is z + φ_k(θ(x)). A class that a site
does not have gets a logit of −∞ in the first, hence no gradient there. Several labels: binary cross-entropies, the
first of z + t·logit π̃_k.
Defaults: no keys of its own. φ_k is linear, one of the paper's two forms (the other is made by a hypernetwork), and
starts at zero, ours.
"""

from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod
from common.models.heads import linear_from
from common.models.model import Model


class FedROD(LocalMethod):
    """A balanced generic head and a personal residual."""

    def start(self, model: Model) -> None:
        """Start the residual at zero: a site that has not trained yet predicts as the generic model does."""
        assert model.personal_head is not None
        for parameter in model.personal_head.parameters():
            nn.init.zeros_(parameter)

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(z + log n_k, y) for θ and ψ, and CE(z + φ_k(h), y) for φ_k with z and h detached."""
        assert model.aux_head is not None and model.personal_head is not None
        features = model(images)
        generic = model.aux_head(features)
        personal = generic.detach() + model.personal_head(features.detach())
        return {
            "backbone": local.balanced_loss(generic, labels),
            "personal_head": local.loss(personal, labels),
        }

    def personal_head(self, model: Model) -> nn.Linear:
        """Return ψ + φ_k: the sum of two linear heads is the head of their summed weights."""
        assert model.aux_head is not None and model.personal_head is not None
        psi, phi = model.aux_head, model.personal_head
        bias = None if psi.bias is None else (psi.bias + phi.bias).detach()
        return linear_from((psi.weight + phi.weight).detach(), bias)


METHOD = FedROD()
