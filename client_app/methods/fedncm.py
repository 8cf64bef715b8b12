"""FedNCM (Legate et al., NeurIPS 2023, https://arxiv.org/abs/2306.03937): nearest class mean in one round.

Shared: a backbone that stands still, and the head that the coordinator makes (`server_app/methods/fedncm.py`).
Personal: nothing. Loss: none, nothing trains. What leaves a site, in place of weights: of each class the sum of its
training images' features, and how many they are (`common/closed_form/class_means.py`).
Other than the paper: sums in place of means with counts, in whole numbers. Default: `feature-range` 64.
"""

from client_app.methods.base import LocalContext, OwnImages
from client_app.methods.fed3r import Fed3R
from common.closed_form.class_means import FeatureSums
from common.closed_form.ridge import members_of
from common.methods.shared_options import RangeOptions
from common.models.features import feature_batches
from common.models.model import Model, feature_dim
from common.wire import Arrays


class FedNCM(Fed3R):
    """Sums of features by class in place of training."""

    def extras(self, model: Model, images: OwnImages, local: LocalContext) -> Arrays:
        """Return Σ h̃ of each class, int64 [C, d + 1]."""
        dataset, classes = images.dataset, len(images.dataset.classes)
        sums = FeatureSums(classes, feature_dim(model.backbone), RangeOptions.of(local.experiment).feature_range)
        for features, labels in feature_batches(model.backbone, dataset.train, images.rows, dataset):
            sums.add(features, members_of(labels, classes))
        return {"class_sums": sums.sums.numpy()}


METHOD = FedNCM()
