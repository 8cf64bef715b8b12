"""FedETF (Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058), Sections 4.2 and 4.3.

Shared: backbone and projection, a linear layer whose output is normalised and multiplied by a learnable
temperature. Fixed: a dense ETF of unit norm. Training: balanced softmax with the site's class counts n_k. A
class that a site does not have gets a logit of −∞, hence no gradient there.

Personal, at the end: epochs of backbone and projection under the ETF, then alternately one epoch of the site's own
copy of the ETF and one of its projection, by plain cross-entropy, the rest still. The authors' public code follows one
round of training with 20 alternations of three epochs each, at learning rates of .1 and .05; here all phases share
`finetune-epochs`, a third each, and the rate of the other methods.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client_app.methods.base import Local, LocalMethod, Phase
from common.config import Experiment
from common.heads import projected
from common.model import Model


class FedETF(LocalMethod):
    """A projection learns to meet a fixed ETF; at the end a site's own ETF meets it."""

    @torch.no_grad()
    def start(self, model: Model) -> None:
        """Start the site's own ETF as the fixed one: it is made anew at the end and never kept in between."""
        assert model.personal_head is not None and model.frame is not None
        model.personal_head.weight.copy_(model.frame)

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: Local) -> dict[str, Tensor]:
        """Return CE(s·W g/‖g‖ + log n_k, y) with g the projected features, s the temperature, W the ETF."""
        return {"backbone": cross_entropy(model.frame_logits(model(images)) + local.class_counts.log(), labels)}

    def personal_losses(self, model: Model, images: Tensor, labels: Tensor, local: Local) -> dict[str, Tensor]:
        """Return the plain cross-entropy under the site's own ETF."""
        return {"personal_head": cross_entropy(self.personal_head(model)(model(images)), labels)}

    def personal_head(self, model: Model) -> nn.Module:
        """Return the site's own ETF behind the projection."""
        assert model.personal_head is not None
        return projected(model.projection, model.personal_head)

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return epochs under the fixed ETF, then the alternation."""
        own_etf = Phase(1, frozen=("backbone", "projection"), losses=self.personal_losses)
        projection = Phase(1, ("backbone", "projection.scale", "personal_head"), losses=self.personal_losses)
        turns = max(1, experiment.finetune_epochs // 3)
        return (Phase(max(0, experiment.finetune_epochs - 2 * turns)), *(own_etf, projection) * turns)


METHOD = FedETF()
