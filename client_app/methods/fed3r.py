"""Fed3R (Fanì et al., ICML 2024, https://arxiv.org/abs/2406.01116), Algorithm 1.

Shared: a backbone that stands still, and the head that the coordinator solves (`server_app/methods/fed3r.py`).
Personal: nothing. Loss: Σ‖Wh̃ − y‖² + λ‖W‖², in closed form; nothing trains. What leaves a site, in place of weights:
of each class the sums Σ h̃h̃ᵀ over its training images, h̃ = (h, 1) an image's feature and a constant (Eqs. 5-6;
`common/closed_form/sums.py`).
Other than the paper: a constant beside the feature that is not penalised, sums by class, and sums in whole numbers.
Defaults: `ridge-lambda` auto; `feature-range` 64.
"""

from client_app.methods.base import LocalContext, OwnImages, Phase
from client_app.methods.fedavg import FedAvg
from common.closed_form.ridge import members_of
from common.closed_form.sums import ImageSums
from common.config import Experiment
from common.methods.shared_options import SumsOptions
from common.models.features import feature_batches
from common.models.model import Model, feature_dim
from common.wire import Arrays


class Fed3R(FedAvg):
    """Sums of features in place of training."""

    def phases(self, experiment: Experiment) -> tuple[Phase, ...]:
        """Return none: nothing trains."""
        return ()

    def extras(self, model: Model, images: OwnImages, local: LocalContext) -> Arrays:
        """Return the sums of each group of `systems_of`, int64 [K, D(D + 1)/2]."""
        dataset, classes = images.dataset, len(images.dataset.classes)
        groups = 2 * classes if dataset.multilabel else classes
        sums = ImageSums(groups, feature_dim(model.backbone), SumsOptions.of(local.experiment).feature_range)
        for features, labels in feature_batches(model.backbone, dataset.train, images.rows, dataset):
            sums.add(features, members_of(labels, classes, local.visible))
        return {"feature_sums": sums.packed()}


METHOD = Fed3R()
