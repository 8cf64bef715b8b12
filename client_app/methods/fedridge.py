"""FedRidge: class-balanced ridge regression in one round, and personal heads from a site's own sums (ours).

Generic: W = (Σ_c w_c G_c + λI)⁻¹ Σ_c w_c b_c with w_c = (N/(C n_c))^τ, which the coordinator solves of the sums of all
sites (`server_app/methods/fedridge.py`). Personal: W_k = (G + βG_k + λI)⁻¹(B + βB_k), of the coordinator's weighted
sums G, B and the site's own; the site solves it and sends nothing. After Fed3R (Fanì et al., ICML 2024,
https://arxiv.org/abs/2406.01116) and AFL (He et al., CVPR 2025, https://arxiv.org/abs/2405.16240).
Loss: Σ w‖Wh̃ − y‖² + λ‖W‖², in closed form; nothing trains.
Shared: a backbone that stands still, and the generic head. What leaves a site: what Fed3R's sends (`fed3r.py`).
Defaults: `ridge-balance` τ 1; `own-weight` β auto; `own-balance` 0; `ridge-lambda` auto; `feature-range` 64.
"""

import numpy as np
import torch
from torch import nn

from client_app.methods.base import LocalContext, OwnImages
from client_app.methods.fed3r import Fed3R
from common.closed_form.own_sums import Pooled, SiteImages, choose_share, own_head
from common.closed_form.ridge import Equations, group_weights, systems_of
from common.closed_form.sums import GroupSums, packed_length, unpacked
from common.errors import RefusalError
from common.files import arrays_digest
from common.methods.fedridge import METHOD as ROW
from common.methods.fedridge import FedRidgeOptions
from common.models.features import extract_features
from common.models.heads import linear_from
from common.models.model import Model, feature_dim
from common.seeds import numpy_generator
from common.wire import Arrays


class FedRidge(Fed3R):
    """Fed3R's sums; a personal head from the weighted sums of all sites and the site's own."""

    def final_head(self, model: Model, images: OwnImages, local: LocalContext, sums: Arrays) -> nn.Module:
        """Return W_k in single precision; the generic head at a site without images, or before anybody had any."""
        if not len(images.rows) or not sums:
            return self.personal_head(model)
        options, dataset = FedRidgeOptions.of(local.experiment), images.dataset
        pooled = read_pooled(sums, len(dataset.classes), feature_dim(model.backbone), dataset.multilabel)
        own_arrays = self.extras(model, images, local)
        own = GroupSums(own_arrays["feature_sums"], options.feature_range)
        weights = group_weights(own.counts, pooled.systems, options.own_balance)
        share = options.own_weight
        if share == "auto":
            share = 0.0
            if arrays_digest(own_arrays) == images.held:  # else they cannot be left out of what was sent
                found = self._site_images(model, images, local)
                generator = numpy_generator(local.experiment.run.seed, "own-weight", local.site)
                share, _ = choose_share(pooled, found, own, weights, generator)
        head = own_head(pooled, own, weights, share).to(local.class_counts)
        return linear_from(head[:, :-1].contiguous(), head[:, -1].contiguous())

    @staticmethod
    def _site_images(model: Model, images: OwnImages, local: LocalContext) -> SiteImages:
        dataset, rows = images.dataset, images.rows
        features, labels = extract_features(model.backbone, dataset.train, rows, dataset)
        groups = np.arange(len(rows)) if dataset.train_groups is None else dataset.train_groups[rows]
        return SiteImages(features, labels, groups, local.visible)


def read_pooled(sums: Arrays, num_classes: int, dim: int, multilabel: bool) -> Pooled:
    """Return what the coordinator sent.

    Args:
        sums: the `sums` of FedRidge's row.
        num_classes: C.
        dim: d.
        multilabel: whether images have several labels.

    Raises:
        RefusalError: other names, types or shapes than the site's model needs, or a number that is not finite.
    """
    systems, size = systems_of(num_classes, multilabel), packed_length(dim + 1)
    needed = {
        "pooled_gram": (len(systems), size),
        "pooled_moments": (num_classes, dim + 1),
        "group_weights": (sum(len(system.groups) for system in systems),),
        "strengths": (len(systems),),
    }
    assert needed.keys() == {*ROW.sums}
    for name, shape in needed.items():
        array = sums.get(name)
        if array is None or array.shape != shape or array.dtype != np.float64 or not np.isfinite(array).all():
            raise RefusalError(f"the coordinator's {name} are no finite float64 of shape {shape}")
    outputs = [system.targets.shape[1] for system in systems]
    moments = torch.split(torch.from_numpy(sums["pooled_moments"].copy()), outputs)
    grams = [unpacked(row) for row in sums["pooled_gram"]]
    of = [Equations(gram, moment) for gram, moment in zip(grams, moments, strict=True)]
    return Pooled(systems, of, sums["group_weights"], sums["strengths"].tolist())


METHOD = FedRidge()
