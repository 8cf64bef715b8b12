"""Fed-GraB (Xiao et al., NeurIPS 2023, https://arxiv.org/abs/2310.07587): SGB and DPA.

Shared: backbone and head. Kept at the site: the balancer's state. The loss is a binary cross-entropy a class,
its gradients balanced (SGB): with D_c the sum so far of class c's positive less negative gradients, a PID
controller drives D_c to zero, u = Kp e + Ki Σe + Kd Δe with e = −D_c, and positive gradients are multiplied by
f(u), negative ones by f(−u), f(x) = 10 / (1 + 9 exp(−x/2)). Gains and f are those of the authors' public code.

Frequent classes are balanced less. The prior analyser (DPA) ranks the classes by the norms of the arriving
head, the largest first; a class of rank r keeps its own gradient with probability .1^(r/(C−1)). The public code
draws that for each batch, ranks given; here the weight is its expectation.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from client_app.methods.base import Local
from client_app.methods.fedavg import FedAvg
from common.model import Model

_KP, _KI, _KD = 10.0, 0.01, 0.1


class FedGraB(FedAvg):
    """Binary cross-entropies whose gradients a controller balances."""

    needs_arrived = True

    def losses(self, model: Model, images: Tensor, labels: Tensor, local: Local) -> dict[str, Tensor]:
        """Return Σ_c w_c BCE(z_c, y_c), a mean over the batch, and advance the balancer."""
        assert model.class_state is not None
        logits = self.personal_head(model)(model(images))
        targets = one_hot(labels, logits.shape[1]).to(logits.dtype)
        weights = self.weights(model.class_state, targets, local.arrived["aux_head.weight"])
        losses = binary_cross_entropy_with_logits(logits, targets, weights, reduction="none")
        with torch.no_grad():
            gradients = weights * (logits.sigmoid() - targets).abs() / len(labels)
            model.class_state[0] += (gradients * (2 * targets - 1)).sum(dim=0)
        return {"backbone": losses.sum() / len(labels)}

    def weights(self, state: Tensor, targets: Tensor, head: Tensor) -> Tensor:
        """Return the weight [B, C] of each gradient, and advance the controllers in place.

        Args:
            state: [3, C]: D, Σe, and the last e.
            targets: [B, C] of 0 and 1.
            head: the arriving ψ [C, d], whose norms are the prior.
        """
        difference, total, last = state
        error = -difference
        total += error
        control = _KP * error + _KI * total + _KD * (error - last)
        last.copy_(error)
        balanced = torch.where(targets > 0, gain(control), gain(-control))
        own = torch.pow(0.1, ranks(head) / max(1, len(error) - 1))
        return own + (1 - own) * balanced


def gain(control: Tensor) -> Tensor:
    """Return f(x) = 10 / (1 + 9 exp(−x/2)): 0 at −∞, 1 at 0, 10 at ∞."""
    return 10 * torch.sigmoid(control / 2 - math.log(9))


def ranks(head: Tensor) -> Tensor:
    """Return [C]: 0 for the class vector of the largest norm, C − 1 for the smallest."""
    norms: Tensor = torch.linalg.vector_norm(head, dim=1)
    return norms.argsort(descending=True).argsort().to(head.dtype)


METHOD = FedGraB()
