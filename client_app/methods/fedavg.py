"""FedAvg (McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629), Algorithm 1.

Shared: backbone and head, averaged by the number of training images. Personal: nothing; a site's
personal model is the global one, with its head fine-tuned at the end where `finetune-epochs` asks for it.
Loss: CE(ψ(θ(x)), y). Defaults: no keys of its own; `common/config/sections` has those that all methods share.
"""

from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod
from common.models.model import Model


class FedAvg(LocalMethod):
    """Cross-entropy of one global model."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(ψ(θ(x)), y), which trains θ and ψ together."""
        return {"backbone": local.loss(self.personal_head(model)(model(images)), labels)}

    def personal_head(self, model: Model) -> nn.Linear:
        """Return the global head: FedAvg has no other."""
        assert model.aux_head is not None
        return model.aux_head


METHOD = FedAvg()
