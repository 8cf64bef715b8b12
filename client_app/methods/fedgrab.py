"""Fed-GraB (Xiao et al., NeurIPS 2023, https://arxiv.org/abs/2310.07587): SGB and DPA.

Shared: backbone and head. Personal: the balancer's state. Loss: Σ_c w_c BCE(z_c, y_c), whose weights w balance the
gradients (SGB): with D_c the sum so far of class c's positive less negative balanced gradients, a
PID controller drives D_c to zero, u = Kp e + Ki Σe + Kd Δe with e = −D_c, and positive gradients are multiplied
by f(u), negative ones by f(−u), f(x) = 10 / (1 + 9 exp(−x/2)).

Frequent classes are balanced less. The prior analyser (DPA) ranks the classes by the norms of the arriving
head, the largest first; a class of rank r keeps its own gradient with probability .1^(r/(C−1)) and is balanced
otherwise. The public code draws that for each batch, ranks given, with a counter that moves on only when a class
kept its own; here the weight is the expectation of the plain rule, w = p + (1 − p) f(±u) with that probability p.

Defaults: no keys of its own; f and the gains, Kp = 10, Ki = .01, Kd = .1, are those of the authors' public code.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from client_app.methods.base import LocalContext
from client_app.methods.fedavg import FedAvg
from common.models.model import Model

_KP, _KI, _KD = 10.0, 0.01, 0.1


class FedGraB(FedAvg):
    """Binary cross-entropies whose gradients a controller balances."""

    needs_broadcast = True

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: LocalContext) -> dict[str, Tensor]:
        """Return Σ_c w_c BCE(z_c, y_c), a mean over the batch, and advance the balancer."""
        assert model.class_state is not None
        logits = self.personal_head(model)(model(images))
        targets = one_hot(labels, logits.shape[1]).to(logits.dtype)
        own = keeping(local.broadcast["aux_head.weight"])
        balanced = (1 - own) * self.gains(model.class_state, targets)
        losses = binary_cross_entropy_with_logits(logits, targets, own + balanced, reduction="none")
        with torch.no_grad():
            gradients = balanced * (logits.sigmoid() - targets).abs() / len(labels)
            model.class_state[0] += (gradients * (2 * targets - 1)).sum(dim=0)
        return {"backbone": losses.sum() / len(labels)}

    def gains(self, state: Tensor, targets: Tensor) -> Tensor:
        """Return the factor [B, C] of each gradient, and advance the controllers in place.

        Args:
            state: [3, C]: D, Σe, and the last e.
            targets: [B, C] of 0 and 1.
        """
        difference, total, last = state
        error = -difference
        total += error
        control = _KP * error + _KI * total + _KD * (error - last)
        last.copy_(error)
        return torch.where(targets > 0, gain(control), gain(-control))


def gain(control: Tensor) -> Tensor:
    """Return f(x) = 10 / (1 + 9 exp(−x/2)): 0 at −∞, 1 at 0, 10 at ∞."""
    return 10 * torch.sigmoid(control / 2 - math.log(9))


def keeping(head: Tensor) -> Tensor:
    """Return how likely each class keeps its own gradient, [C], by the norms of a head [C, d]."""
    norms: Tensor = torch.linalg.vector_norm(head, dim=1)
    rank = norms.argsort(descending=True).argsort().to(head.dtype)
    return torch.pow(0.1, rank / max(1, len(head) - 1))


METHOD = FedGraB()
