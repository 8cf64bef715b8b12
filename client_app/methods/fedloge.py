"""FedLoGe (Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977), Algorithm 1, ClientUpdate.

Shared: backbone θ and auxiliary head ψ, averaged by the number of training images. Fixed: the frame W
(SSE-C). Personal: head φ_k, kept at the site and realigned by Eq. 7 at the end.
Losses: CE(W h, y) for θ with h = θ(x); CE(ψ(h), y) and CE(φ_k(h), y) on h detached.

Defaults: `sparsity` .6, the paper's β and its code's; `frame-norm` 1, ours, where its code has .1; `frame-solver`
projection, ours, exact and fast, where the paper descends a gradient (mma); `realign` paper, Eq. 7; no
`frame-projection` and `frame-loss` cross-entropy, as the paper's method (Table 8 has the others).
"""

from functools import partial

from torch import Tensor, nn
from torch.nn.functional import normalize

from client_app.methods.base import LocalContext, LocalMethod
from client_app.methods.realign import BiasMode, realign_personal
from common.config import Experiment
from common.methods.fedloge import FedLoGeOptions
from common.models.heads import linear_from
from common.models.model import Model


class FedLoGe(LocalMethod):
    """Three cross-entropies on the features of one forward pass."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the losses of θ under the fixed frame, and of ψ and φ_k on detached features.

        The three touch disjoint parameters, so one backward pass of their sum and one optimiser step
        equal Algorithm 1's three steps (`tests/parity/test_one_backward.py`).
        """
        assert model.aux_head is not None and model.personal_head is not None
        features = model(images)
        frozen = features.detach()
        return {
            "backbone": self.frame_loss(model, features, labels, local),
            "aux_head": local.loss(model.aux_head(frozen), labels),
            "personal_head": local.loss(model.personal_head(frozen), labels),
        }

    def frame_loss(self, model: Model, features: Tensor, labels: Tensor, local: LocalContext) -> Tensor:
        """Return the loss of θ under the frame: cross-entropy, or Table 8's dot regression.

        Dot regression (Yang et al., NeurIPS 2022, https://arxiv.org/abs/2203.09081, Eq. 9) draws the unit
        feature ĥ to its class vector w_y of norm γ: (⟨w_y, ĥ⟩ − γ)² / 2γ, without repelling other classes.
        """
        if FedLoGeOptions.of(local.experiment).frame_loss == "cross-entropy":
            return local.loss(model.frame_logits(features), labels)
        assert model.frame is not None
        projected = features if model.projection is None else model.projection(features)
        return local.of_labels(partial(_dot_regression, normalize(projected, dim=1), model.frame), labels)

    def personal_head(self, model: Model) -> nn.Linear:
        """Return φ_k."""
        assert model.personal_head is not None
        return model.personal_head

    def realigned_bias(self, experiment: Experiment) -> BiasMode:
        """Return what becomes of the realigned head's bias: `realign-bias`."""
        return experiment.personalise.realign_bias

    def realigned_head(self, model: Model, local: LocalContext) -> nn.Linear | None:
        """Return φ_k after LA-FR (Eq. 7), or None for `realign: none`."""
        experiment = local.experiment
        if experiment.personalise.realign == "none":
            return None
        assert model.aux_head is not None and model.personal_head is not None
        psi, phi = model.aux_head, model.personal_head
        weight, bias = realign_personal(
            psi.weight.detach(),
            None if psi.bias is None else psi.bias.detach(),
            phi.weight.detach(),
            None if phi.bias is None else phi.bias.detach(),
            mode=experiment.personalise.realign,
            bias_mode=self.realigned_bias(experiment),
            shares=local.shares,
        )
        return linear_from(weight, bias)


def _dot_regression(directions: Tensor, frame: Tensor, labels: Tensor) -> Tensor:
    wanted = frame[labels]
    norms = wanted.norm(dim=1)
    products = (wanted * directions).sum(dim=1)
    mean: Tensor = ((products - norms).square() / (2 * norms)).mean()
    return mean


METHOD = FedLoGe()
