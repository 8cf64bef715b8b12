"""FedProx (Li et al., MLSys 2020, https://arxiv.org/abs/1812.06127), Eq. 2.

Shared: backbone and head. Personal: nothing. Each site minimises F_k(w) + (μ/2)‖w − w_g‖², the norm
squared, over all parameters; BatchNorm's statistics are no parameters.
Defaults: μ is `fedprox-mu`, .01 as the public codes of FedLoGe and CReFF set it for their comparisons; the paper
itself tunes it in {.001, .01, .1, 1}.
"""

import torch
from torch import Tensor

from client_app.methods.base import LocalContext, proximal
from client_app.methods.fedavg import FedAvg
from common.methods.fedprox import FedProxOptions
from common.models.model import Model


class FedProx(FedAvg):
    """FedAvg's loss, held to the model that arrived."""

    needs_broadcast = True

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the cross-entropy and (μ/2)‖w − w_g‖² of θ and ψ."""
        parts = [proximal(model, part, local.broadcast, part) for part in ("backbone", "aux_head")]
        penalty = FedProxOptions.of(local.experiment).fedprox_mu / 2 * torch.stack(parts).sum()
        return super().losses(model, images, labels, local) | {"proximal": penalty}


METHOD = FedProx()
