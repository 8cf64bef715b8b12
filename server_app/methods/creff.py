"""CReFF on the coordinator (Shang et al., IJCAI 2022, https://arxiv.org/abs/2204.13399), Eqs. 3-6.

Federated features, `creff-features` of each class, are learnt so that the gradients they give the re-trained
head match the mean of the sites' gradients on real features (Eq. 5: one minus the cosine, row by row). A head
drawn anew is then trained on these features, balanced by construction (Eq. 6), and sent with the next round.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from common.methods.creff import CReFFOptions
from common.models.parts import seeded
from common.seeds import derive, torch_generator
from common.wire import Arrays
from server_app.methods.base import ServerMethod

_BATCH = 32  # features a step of the re-trained head, as in the public code


class FederatedFeatures(ServerMethod):
    """Learns features from gradients and a head from features."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._features: Tensor | None = None  # [C, m, d]
        self._sum: npt.NDArray[np.float64] | float = 0.0
        self._sites = np.zeros(self.num_classes)

    def shapes(self, broadcast: Arrays) -> dict[str, tuple[int, ...]]:
        """Return [C, C, d], d + 1 with a bias."""
        classes, dim = broadcast["retrained_head.weight"].shape
        return {"class_gradients": (classes, classes, dim + ("retrained_head.bias" in broadcast))}

    def begin(self) -> None:
        """Discard the gradients of a round that is repeated."""
        self._sum, self._sites = 0.0, np.zeros(self.num_classes)

    def add_extras(self, site: str, extras: Mapping[str, npt.NDArray[Any]]) -> None:
        """Add one site's gradients; a class it does not have is all zero and does not count (Eq. 4)."""
        gradients = extras["class_gradients"].astype(np.float64)
        self._sum = self._sum + gradients
        self._sites += np.abs(gradients).sum(axis=(1, 2)) > 0

    def state(self) -> Arrays:
        """Return the federated features."""
        return {} if self._features is None else {"features": self._features.numpy()}

    def restore(self, state: Arrays) -> None:
        """Take over the federated features."""
        self._features = torch.from_numpy(state["features"].copy()) if "features" in state else None

    def finish(self, broadcast: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """Return the re-trained head, and how far the gradients still are from the real ones."""
        names = [name for name in broadcast if name.startswith("retrained_head.")]
        if not self._sites.any():
            return {name: broadcast[name] for name in names}, {}
        weight = torch.from_numpy(broadcast["retrained_head.weight"])
        bias = torch.from_numpy(broadcast["retrained_head.bias"]) if "retrained_head.bias" in broadcast else None
        real = torch.from_numpy(np.asarray(self._sum) / np.maximum(self._sites, 1)[:, None, None]).float()
        known = torch.from_numpy(self._sites > 0)
        options = CReFFOptions.of(self.experiment)
        if self._features is None:
            generator = torch_generator(self.experiment.run.seed, "creff-features")
            size = (self.num_classes, options.creff_features, weight.shape[1])
            self._features = torch.randn(size, generator=generator)
        self._features, loss = match(
            self._features, weight, bias, real, known, options.creff_match_steps, options.creff_match_rate
        )
        head = self._retrain(bias is not None, server_round)
        return {f"retrained_head.{name}": value.numpy() for name, value in head.state_dict().items()}, {"match": loss}

    def _retrain(self, with_bias: bool, server_round: int) -> nn.Linear:
        """Return a head drawn anew and trained on the features by plain cross-entropy."""
        assert self._features is not None
        options, seed = CReFFOptions.of(self.experiment), self.experiment.run.seed
        features = self._features.flatten(0, 1)
        labels = torch.arange(self.num_classes).repeat_interleave(options.creff_features)
        generator = torch_generator(seed, "creff-batches", server_round=server_round)
        start = derive(seed, "creff-head", server_round=server_round)
        head = seeded(start, partial(nn.Linear, features.shape[1], self.num_classes, bias=with_bias))
        for _ in range(options.creff_retrain_epochs):
            for batch in torch.randperm(len(features), generator=generator).split(_BATCH):  # type: ignore[no-untyped-call]
                descend(head, features[batch], labels[batch], options.creff_retrain_rate)
        return head.requires_grad_(False)


@torch.no_grad()
def descend(head: nn.Linear, features: Tensor, labels: Tensor, rate: float) -> None:
    """Take one step of gradient descent on the cross-entropy, in place; by its closed form, for speed."""
    errors = head(features).softmax(dim=1)
    errors[torch.arange(len(labels)), labels] -= 1
    head.weight.sub_(rate / len(labels) * errors.T @ features)
    if head.bias is not None:
        head.bias.sub_(rate / len(labels) * errors.sum(dim=0))


def match(
    features: Tensor, weight: Tensor, bias: Tensor | None, real: Tensor, known: Tensor, steps: int, rate: float
) -> tuple[Tensor, float]:
    """Return features [C, m, d] moved by gradient descent on the matching loss, and the last loss.

    Args:
        features: [C, m, d], m of each class.
        weight: the head that the gradients are of, [C, d].
        bias: [C] or None.
        real: the sites' mean gradients, [C, C, d], d + 1 with a bias.
        known: [C], classes of which there are real gradients; the others' features stay.
        steps: of gradient descent.
        rate: its learning rate.
    """
    moving = features.clone().requires_grad_()
    loss = torch.zeros(())
    for _ in range(steps):
        distance = matching_distance(head_gradients(moving, weight, bias), real, bias is not None)
        loss = (distance * known).sum()
        (gradient,) = torch.autograd.grad(loss, moving)
        moving = (moving - rate * gradient).detach().requires_grad_()
    return moving.detach(), loss.item()


def head_gradients(features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return [C, C, d], d + 1 with a bias: the mean gradient of CE(Wh + b, c) over the features [C, m, d] of c."""
    logits = features @ weight.T if bias is None else features @ weight.T + bias
    errors = logits.softmax(dim=2) - torch.eye(len(weight)).unsqueeze(1)
    inputs = features if bias is None else pad(features, (0, 1), value=1.0)
    return torch.einsum("kmc,kmd->kcd", errors, inputs) / features.shape[1]


def matching_distance(ours: Tensor, real: Tensor, with_bias: bool) -> Tensor:
    """Return [C]: one minus the cosine of each row of the weight's gradient, and of the bias's, summed (Eq. 5)."""
    rows = slice(None, -1) if with_bias else slice(None)
    distance = (1 - _cosine(ours[..., rows], real[..., rows], dim=2)).sum(dim=1)
    return distance + 1 - _cosine(ours[..., -1], real[..., -1], dim=1) if with_bias else distance


def _cosine(ours: Tensor, real: Tensor, dim: int) -> Tensor:
    """Return the cosine with 1e-6 added to the denominator, as in the public code: tiny gradients count less."""
    norms: Tensor = torch.linalg.vector_norm(ours, dim=dim) * torch.linalg.vector_norm(real, dim=dim)
    return (ours * real).sum(dim=dim) / (norms + 1e-6)


METHOD = FederatedFeatures
