"""FedLoGe-ML: FedLoGe (Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977) for several labels an image; ours.

As FedLoGe, on the class features of FedNCA-ML (https://arxiv.org/abs/2509.12544): the sparse frame asks the
attention and is the backbone's fixed head. Shared: backbone with its attention, scale and biases of the frame, and ψ
with biases. Personal: φ_k with biases; both heads learn on detached class features. θ and ψ learn with
prior-compensated logits z + t·logit π̃_k, π̃_kc = (n_kc + 1)/(N_k + 2), so that what is averaged carries no site's
prior; φ_k learns by the plain loss and so keeps its own site's. ψ and φ_k start as the frame's head, 10 times the
frame: small random heads lag behind the features, which the frame's scale makes learn ten times as fast.

Realignment (`realign-global`): unit, ψ̂_c = ψ_c / ‖ψ_c‖ (`realign-bias` says what becomes of b); prior, ψ with
the coordinator's label prior t·logit π̂ on its bias; or none. φ̂_kc = (ψ_c / ‖ψ_c‖) ‖φ_kc‖ with φ_k's bias.
Within a class all are monotone for ψ: its AUC cannot change by realignment, its F1 can.

Defaults, ours: `prior-temperature` 1 compensates the whole prior; `realign-global` unit, `realign-bias` keep;
`attention-heads` 4. The frame's are FedLoGe's.
"""

from torch import Tensor

from client_app.methods.base import LocalContext
from client_app.methods.fedloge import FedLoGe
from client_app.methods.realign import BiasMode
from common.config import Experiment
from common.models.model import Model


class FedLoGeML(FedLoGe):
    """Three losses on the class features of one forward pass."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the losses of θ under the frame, and of ψ and φ_k on detached features; as FedLoGe's, one step."""
        assert model.aux_head is not None and model.personal_head is not None
        features = model(images)
        frozen = features.detach()
        return {
            "backbone": local.balanced_loss(model.frame_logits(features), labels),
            "aux_head": local.balanced_loss(model.aux_head(frozen), labels),
            "personal_head": local.loss(model.personal_head(frozen), labels),
        }

    def realigned_bias(self, experiment: Experiment) -> BiasMode:
        """Return keep: φ_k's own; `realign-bias` is ψ's."""
        return "keep"


METHOD = FedLoGeML()
