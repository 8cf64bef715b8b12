"""A site's figures: how many of its own test images a head gets right."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from client_app.site import Site
from common.config import Experiment
from common.features import extract_features


class Judge:
    """The site's test images as features of one backbone, taken once, to judge any number of heads.

    Args:
        backbone: images → features [B, d].
        site: whose test images.
        experiment: says whether classes absent from the site's training data may be predicted.
    """

    def __init__(self, backbone: nn.Module, site: Site, experiment: Experiment) -> None:
        dataset = site.federation.dataset
        self._features, self._labels = extract_features(backbone, dataset.test, site.test_rows, dataset)
        self._present = site.present if experiment.mask_classes == "train" else None

    def hits(self, head: nn.Module) -> int:
        """Count the images that a head gets right."""
        return hits(head, self._features, self._labels, self._present)


@torch.no_grad()
def hits(head: nn.Module, features: Tensor, labels: Tensor, present: npt.NDArray[np.bool_] | None = None) -> int:
    """Count correct predictions of a head on features [n, d] with labels [n].

    Args:
        present: classes [C] in the site's training data; where given, the others are never predicted.
    """
    if not len(labels):
        return 0
    logits = head(features)
    if present is not None:
        logits[:, ~torch.from_numpy(present).to(logits.device)] = -torch.inf
    return int((logits.argmax(dim=1) == labels).sum())
