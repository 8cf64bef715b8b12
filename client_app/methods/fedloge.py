"""FedLoGe (Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977), Algorithm 1, ClientUpdate.

Shared: backbone θ and auxiliary head ψ, averaged by the number of training images. Fixed: the frame
(SSE-C). Personal: head φ_k, kept at the site and realigned by Eq. 7 at the end.
"""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from client_app.methods.base import Local, LocalMethod, linear_from
from client_app.realign import realign_personal
from common.config import Experiment
from common.model import Model


class FedLoGe(LocalMethod):
    """Three cross-entropies on the features of one forward pass."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: Local) -> dict[str, Tensor]:
        """Return the losses of θ under the fixed frame, and of ψ and φ_k on detached features.

        The three touch disjoint parameters, so one backward pass of their sum and one optimiser step
        equal Algorithm 1's three steps (`tests/parity/test_one_backward.py`).
        """
        assert model.aux_head is not None and model.personal_head is not None
        features = model(images)
        frozen = features.detach()
        return {
            "backbone": cross_entropy(model.frame_logits(features), labels),
            "aux_head": cross_entropy(model.aux_head(frozen), labels),
            "personal_head": cross_entropy(model.personal_head(frozen), labels),
        }

    def personal_head(self, model: Model) -> nn.Linear:
        """Return φ_k."""
        assert model.personal_head is not None
        return model.personal_head

    def realigned_head(self, model: Model, experiment: Experiment) -> nn.Linear | None:
        """Return φ_k after LA-FR (Eq. 7), or None for `realign: none`."""
        if experiment.realign == "none":
            return None
        assert model.aux_head is not None and model.personal_head is not None
        psi, phi = model.aux_head, model.personal_head
        weight, bias = realign_personal(
            psi.weight.detach(),
            None if psi.bias is None else psi.bias.detach(),
            phi.weight.detach(),
            None if phi.bias is None else phi.bias.detach(),
            mode=experiment.realign,
            bias_mode=experiment.realign_bias,
        )
        return linear_from(weight, bias)


METHOD = FedLoGe()
