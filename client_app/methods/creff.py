"""CReFF (Shang et al., IJCAI 2022, https://arxiv.org/abs/2204.13399), Algorithm 1.

Shared: backbone and head ψ, trained as FedAvg's, CE(ψ(θ(x)), y). Personal: nothing. The coordinator learns federated
features whose gradients match those of real ones and re-trains a head on them (`server_app/methods/creff.py`, Eqs.
3-6); that head on the averaged backbone is the generic model. What leaves a site beside weights: the mean gradient of
the re-trained head for each of its classes. The paper's code averages ten augmented batches of 32 images a class;
here it is the exact mean over the site's images.
Defaults: `creff-features` 100 and the rates `creff-match-rate` .1 and `creff-retrain-rate` .01 are the paper's;
`creff-match-steps` 100 and `creff-retrain-epochs` 300 its code's.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad

from client_app.methods.base import LocalContext, OwnImages
from client_app.methods.fedavg import FedAvg
from common.models.features import extract_features
from common.models.model import Model
from common.wire import Arrays


class CReFF(FedAvg):
    """FedAvg's loss; before it, the gradients of the re-trained head on real features."""

    @torch.no_grad()
    def extras(self, model: Model, images: OwnImages, local: LocalContext) -> Arrays:
        """Return, for each class, the mean gradient of CE(Wh + b, c) by W, and by b as a last column (Eq. 3)."""
        head = self.personal_head(model)
        features, labels = extract_features(model.backbone, images.dataset.train, images.rows, images.dataset)
        classes = one_hot(labels, head.out_features).to(features.dtype)
        errors = head(features).softmax(dim=1) - classes
        inputs = pad(features, (0, 1), value=1.0) if head.bias is not None else features
        sums = torch.einsum("nk,nc,nd->kcd", classes, errors, inputs)
        counts = classes.sum(dim=0).clamp(min=1)
        return {"class_gradients": (sums / counts.view(-1, 1, 1)).cpu().numpy()}

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return CE(ψ(θ(x)), y), which trains θ and ψ; the re-trained head is frozen."""
        assert model.aux_head is not None
        return {"backbone": local.loss(model.aux_head(model(images)), labels)}

    def personal_head(self, model: Model) -> nn.Linear:
        """Return the re-trained head."""
        assert model.retrained_head is not None
        return model.retrained_head


METHOD = CReFF()
