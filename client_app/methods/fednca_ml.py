"""FedNCA-ML (Peng et al., 2025, https://arxiv.org/abs/2509.12544).

Shared: backbone with its label-aware attention, and the class head's scale and biases. Fixed: the frame, an ETF
that asks the attention and classifies. Personal: nothing; `finetune-epochs` trains the whole model at the end.

Loss: the multi-label loss of the logits Z_cc, plus `suppression-weight` times negative suppression and
`clustering-weight` times compact clustering. Ablations: `attention=false` (one pooled feature for all classes),
`frame-trains=true` (the head's class vectors learn, as the "fixed" ones of the public code do; the queries stay),
either weight at 0.

Defaults: `suppression-weight` .01, `clustering-weight` 1 and `query-frame` etf are the paper's; `attention-heads` 4,
ours. The head's scale of 10 makes every step of SGD far larger: a `learning-rate` of .01 did best on validation images
of two data sets, with trained class vectors (`frame-trains`) .03 diverges.
"""

from torch import Tensor, nn

from client_app.methods.base import LocalContext, LocalMethod, Phase
from common.config import Experiment
from common.losses import compact_clustering, negative_suppression
from common.methods.fednca_ml import FedNCAMLOptions
from common.models.model import Model


class FedNCAML(LocalMethod):
    """Class features under a fixed frame, with two regularisers."""

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return the loss of the diagonal, and the weighted regularisers; all of θ, attention and head."""
        assert model.class_head is not None and model.frame is not None
        head, features = model.class_head, model(images)
        mask, options = local.mask(labels), FedNCAMLOptions.of(local.experiment)
        if features.dim() == 3:
            scores = head(features, model.frame)
            logits = scores.diagonal(dim1=1, dim2=2)
        else:  # one feature for all classes: a negative's only score is its own, the others may be of true labels
            logits = head.logits(features, model.frame)
            scores = logits.unsqueeze(2)
            features = features.unsqueeze(1).expand(-1, len(model.frame), -1)
        suppression = negative_suppression(scores, labels, mask)
        clustering = compact_clustering(features, labels, head.class_vectors(model.frame), mask)
        return {
            "backbone": local.loss(logits, labels),
            "suppression": options.suppression_weight * suppression,
            "clustering": options.clustering_weight * clustering,
        }

    def personal_head(self, model: Model) -> nn.Module:
        """Return the frame with its scale and biases."""
        return model.frame_head()

    def finetuning(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return epochs of the whole model."""
        return (Phase(experiment.personalise.finetune_epochs),)


METHOD = FedNCAML()
