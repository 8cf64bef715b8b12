"""Ditto (Li et al., ICML 2021, https://arxiv.org/abs/2012.04221), Algorithm 1.

Shared: backbone and head, trained as FedAvg's. Personal: a whole model v_k, kept at the site, that
minimises F_k(v) + (λ/2)‖v − w_g‖² with w_g the global model as it arrived.
Defaults: λ is `ditto-lambda`, 1 as in the paper where a site has too few images to choose one and no strong attack is
feared; other sites choose from {.1, 1, 2}. The personal model passes over the images as often as the global, ours.
"""

from torch import Tensor, nn

from client_app.methods.base import LocalContext, proximal
from client_app.methods.fedavg import FedAvg
from common.methods.ditto import DittoOptions
from common.models.model import Model


class Ditto(FedAvg):
    """FedAvg's loss for the global model, and the personal model's own, on disjoint parameters."""

    needs_broadcast = True

    def start(self, model: Model) -> None:
        """Start v_k as the global model that arrived, in whatever round a site first takes part."""
        assert model.aux_head is not None
        self.personal_backbone(model).load_state_dict(model.backbone.state_dict())
        self.personal_head(model).load_state_dict(model.aux_head.state_dict())

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return FedAvg's loss, CE(v_k(x), y) and (λ/2)‖v_k − w_g‖²."""
        assert model.aux_head is not None
        shared = {"backbone": local.loss(model.aux_head(model(images)), labels)}
        logits = self.personal_head(model)(self.personal_backbone(model)(images))
        distance = proximal(model, "personal_backbone", local.broadcast, "backbone") + proximal(
            model, "personal_head", local.broadcast, "aux_head"
        )
        return shared | {
            "personal_head": local.loss(logits, labels),
            "proximal": DittoOptions.of(local.experiment).ditto_lambda / 2 * distance,
        }

    def personal_backbone(self, model: Model) -> nn.Module:
        """Return the backbone of v_k."""
        assert model.personal_backbone is not None
        return model.personal_backbone

    def personal_head(self, model: Model) -> nn.Linear:
        """Return the head of v_k."""
        assert model.personal_head is not None
        return model.personal_head


METHOD = Ditto()
