"""A site's figures: how many of its own test images each head gets right."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from common.data import Dataset
from common.data.images import ImageSource
from common.data.transforms import prepare
from common.model import Model

EVAL_BATCH = 512  # images a forward pass; large enough to fill a CPU core, small enough for any GPU


@torch.no_grad()
def extract_features(
    model: Model, images: ImageSource, rows: npt.NDArray[np.int64], dataset: Dataset
) -> tuple[Tensor, Tensor]:
    """Return features [n, d] and labels [n] of some rows, in eval mode, on the model's device."""
    model.eval()
    parameter = next(model.parameters())
    parts = [
        model(prepare(images.batch(chunk), dataset.mean, dataset.std, parameter.device))
        for chunk in np.array_split(rows, max(1, -(-len(rows) // EVAL_BATCH)))
        if len(chunk)
    ]
    labels = torch.from_numpy(images.labels[rows]).to(parameter.device)
    if not parts:
        return torch.empty(0, 0, device=parameter.device), labels
    return torch.cat(parts), labels


@torch.no_grad()
def hits(head: nn.Linear, features: Tensor, labels: Tensor, present: npt.NDArray[np.bool_] | None = None) -> int:
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
