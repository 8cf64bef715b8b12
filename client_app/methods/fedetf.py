"""FedETF (Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058), Sections 4.2 and 4.3.

Shared: backbone and projection, a linear layer with output g that is normalised and multiplied by a learnable
temperature s. Fixed: a dense ETF W of unit norm. Loss: CE(s·W g/‖g‖ + log n_k, y), the balanced softmax with the
site's class counts n_k. A class that a site does not have gets a logit of −∞, hence no gradient there.

Personal: the site's own copy of the ETF, made at the end, where `finetune-epochs` E trains in two steps: backbone and
projection under the fixed ETF as before, then turns of one epoch of the own ETF and one of the projection, the
rest still, by plain cross-entropy. There are ⌊E/3⌋ turns, at least one, and the first step has what remains of E: of 5
epochs 3 and one turn, of 6 two and two turns, of 2 none and one turn; of 1, the own ETF's epoch alone.

Defaults: `etf-temperature`, s at the start, is 10 for the small CNN and 1 for ResNets, as in the authors' public code.
That code follows one round of training with 20 turns of 3 + 3 epochs, at learning rates of .1 and .05; here all
share `finetune-epochs`, ours, so that every method fine-tunes equally long, at the rate of methods with a frame.
"""

import torch
from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod, Phase
from common.config import Experiment
from common.models.heads import projected
from common.models.model import Model


class FedETF(LocalMethod):
    """A projection learns to meet a fixed ETF; at the end a site's own ETF meets it."""

    @torch.no_grad()
    def start(self, model: Model) -> None:
        """Start the site's own ETF as the fixed one: it is made anew at the end and never kept in between."""
        assert model.personal_head is not None and model.frame is not None
        model.personal_head.weight.copy_(model.frame)

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(s·W g/‖g‖ + log n_k, y) with g the projected features, s the temperature, W the ETF."""
        return {"backbone": local.balanced_loss(model.frame_logits(model(images)), labels)}

    def personal_losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the plain cross-entropy under the site's own ETF."""
        return {"personal_head": local.loss(self.personal_head(model)(model(images)), labels)}

    def personal_head(self, model: Model) -> nn.Module:
        """Return the site's own ETF behind the projection."""
        assert model.personal_head is not None
        return projected(model.projection, model.personal_head)

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return the epochs under the fixed ETF, then the turns; `finetune-epochs` in all."""
        own_etf = Phase(1, frozen=("backbone", "projection"), losses=self.personal_losses)
        projection = Phase(1, ("backbone", "projection.scale", "personal_head"), losses=self.personal_losses)
        epochs = experiment.personalise.finetune_epochs
        turns = (own_etf, projection) * max(1, epochs // 3)
        return (Phase(max(0, epochs - len(turns))), *turns[:epochs])


METHOD = FedETF()
