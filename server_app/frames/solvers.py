"""Solvers for frames that have no closed form: `projection` and `mma` for a sparse ETF, `spread` for d < C-1.

They work on X in R^{d x C}, the papers' convention: columns are class vectors. `mask` has the same shape,
with 1 where an entry survives and 0 where it is held at zero; no solver moves an entry that the mask holds.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

# A residual below this, divided by C, is an angle variance of 3e-15 deg²: float32 storage hides the rest.
_RESIDUAL = 1e-9
_NEWTON_STEPS = 60
_CG_STEPS = 60
# A frame counts as exact below this: an angle variance of 3e-11 deg².
EXACT = 1e-7
# Where the mask admits no exact frame, steps go on only while they gain a tenth every so many.
_WINDOW, _GAIN = 8, 0.9


@dataclass(frozen=True)
class MmaOptions:
    """How `mma` descends; the defaults are those of the paper's public code."""

    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: float = 1e-4
    steps: int = 10_000


def simplex_gram(num_classes: int) -> Tensor:
    """Return Eq. 2's Gram matrix, float64 [C, C]: 1 on the diagonal and -1/(C-1) elsewhere."""
    gram = torch.full((num_classes, num_classes), -1 / (num_classes - 1), dtype=torch.float64)
    return gram.fill_diagonal_(1)


def unit_columns(frame: Tensor) -> Tensor:
    """Scale every column to norm 1; a zero column stays zero."""
    norms: Tensor = torch.linalg.vector_norm(frame, dim=0)
    return frame / norms.clamp(min=1e-30)


def gram_residual(frame: Tensor) -> float:
    """Return ‖X'X - G‖_F of a float64 frame [d, C] against Eq. 2's Gram matrix G."""
    return float(torch.linalg.matrix_norm(simplex_gram(frame.shape[1]) - frame.T @ frame))


def projection(start: Tensor, mask: Tensor) -> Tensor:
    """Find the masked frame whose Gram matrix is Eq. 2's, or the nearest one that the mask admits.

    Plain alternation between the masked matrices and the frames of Eq. 2's geometry converges linearly, and
    slowly where the mask leaves little freedom. Here every step projects X onto the masked matrices whose
    Gram matrix is right to first order (Gauss-Newton: the least change that does it), so the error squares.

    The geometry implies X1 = 0, since 1 spans the null space of G. The Gram matrix alone pins X there only to
    second order and would slow Newton's steps to a factor of 4 each, so X first moves among masked matrices
    with X1 = 0. If those hold no exact frame, a second pass drops that constraint to come as near as it can.

    Args:
        start: float64 [d, C], dense.
        mask: float64 [d, C] of 0 and 1.

    Returns:
        float64 [d, C] with unit columns.
    """
    support = mask.sum(dim=1, keepdim=True).clamp(min=1)
    frame = _gauss_newton(start, mask, support)
    if gram_residual(frame) > EXACT * frame.shape[1]:
        frame = _gauss_newton(frame, mask, torch.full_like(support, math.inf))
    return unit_columns(frame)


def _gauss_newton(start: Tensor, mask: Tensor, support: Tensor) -> Tensor:
    """Levenberg-Marquardt on ‖X'X - G‖ over masked X; `support` [d, 1] is infinite to leave X1 free."""
    num_classes = start.shape[1]
    gram = simplex_gram(num_classes)
    frame = _project(start, mask, support)
    frame = frame * (math.sqrt(num_classes) / torch.linalg.matrix_norm(frame))
    residual = gram - frame.T @ frame
    error = float(torch.linalg.matrix_norm(residual))
    # The linear systems are solved in float32, twice as fast; residuals stay float64, so nothing is lost.
    mask32, support32 = mask.float(), support.float()
    damping, history = 1e-2, [error]
    for _ in range(_NEWTON_STEPS):
        if error < _RESIDUAL * num_classes or _stalled(history):
            break
        tolerance = min(0.1, max(1e-5, error))
        multiplier = _solve(frame.float(), mask32, support32, (residual / error).float(), damping, tolerance)
        change = _project(frame.float() @ multiplier, mask32, support32).double() * error
        trial = _project(frame + change, mask, support)
        trial_residual = gram - trial.T @ trial
        ratio = float(torch.linalg.matrix_norm(trial_residual)) / error
        if ratio < 1:
            frame, residual, error = trial, trial_residual, ratio * error
            damping *= 0.1 if ratio < 0.5 else 0.3 if ratio < 0.9 else 1
        else:
            damping = max(damping, 1e-6) * 10
        history.append(error)
    return frame


def _stalled(history: list[float]) -> bool:
    return len(history) > _WINDOW and history[-1] > _GAIN * history[-1 - _WINDOW]


def _project(frame: Tensor, mask: Tensor, support: Tensor) -> Tensor:
    """Project onto the masked matrices whose rows sum to zero (any masked one if support is infinite)."""
    frame = frame * mask
    return frame - mask * (frame.sum(dim=1, keepdim=True) / support)


def _solve(frame: Tensor, mask: Tensor, support: Tensor, residual: Tensor, damping: float, tolerance: float) -> Tensor:
    """Solve X'D(L) + D(L)'X + damping L = residual for symmetric L [C, C], where D(L) = _project(XL).

    D(L) is then the smallest change of X that removes the residual to first order. Conjugate gradients,
    preconditioned by the operator's diagonal.
    """
    diagonal = frame.square().T @ mask
    diagonal = diagonal + diagonal.T + damping
    solution, rest = torch.zeros_like(residual), residual.clone()
    scaled = rest / diagonal
    direction, product = scaled, (rest * scaled).sum()
    for _ in range(_CG_STEPS):
        image = frame.T @ _project(frame @ direction, mask, support)
        image = image + image.T + damping * direction
        length = product / (direction * image).sum()
        solution += length * direction
        rest -= length * image
        if torch.linalg.matrix_norm(rest) <= tolerance:
            break
        scaled = rest / diagonal
        previous, product = product, (rest * scaled).sum()
        direction = scaled + (product / previous) * direction
    return solution


def spread(start: Tensor, mask: Tensor, steps: int = 400) -> Tensor:
    """Push masked unit vectors apart: descend a soft maximum of all pairwise cosines, hardened step by step.

    For d < C-1, where no simplex ETF exists. Where the best arrangement is known it finds it: 36° for 10
    vectors in the plane, the icosahedron's 63.4° for 12 in space.

    Args:
        start: float64 [d, C].
        mask: float64 [d, C] of 0 and 1.
        steps: gradient steps, with momentum .9 and a rate that falls to zero.

    Returns:
        float64 [d, C] with unit columns.
    """
    frame, mask = unit_columns(start * mask).float(), mask.float()
    momentum = torch.zeros_like(frame)
    num_classes = frame.shape[1]
    for step in range(steps):
        done = step / steps
        sharpness = 8 * (300 / 8) ** done
        cosines = (frame.T @ frame).fill_diagonal_(-math.inf)
        weights = torch.softmax((sharpness * cosines).flatten(), dim=0).view_as(cosines)
        gradient = num_classes * mask * (frame @ weights)
        gradient -= frame * (gradient * frame).sum(dim=0)
        momentum = 0.9 * momentum + gradient
        frame = unit_columns(frame - 0.05 * (1 - done) * momentum)
    return unit_columns(frame.double())


def mma(start: Tensor, mask: Tensor, frame_norm: float, options: MmaOptions) -> Tensor:
    """Minimise FedLoGe's Eqs. 4-5 by gradient over the surviving entries, from the masked start (Eq. 3).

    The loss is sum_i (‖w_i‖ - γ)² - mean_i min_{j≠i} angle(w_i, w_j), angles in radians: only the closest
    neighbour of each class counts.

    Args:
        start: float64 [d, C], Eq. 2's matrix with columns of norm γ.
        mask: float64 [d, C] of 0 and 1.
        frame_norm: γ.
        options: optimiser, learning rate and number of steps.

    Returns:
        float64 [d, C]; norms are as the descent left them, near γ.
    """
    held = mask.T.contiguous() == 0
    weight = (start * mask).T.float().contiguous().requires_grad_()
    kind = torch.optim.Adam if options.optimizer == "adam" else torch.optim.SGD
    optimizer = kind([weight], lr=options.learning_rate)
    for _ in range(options.steps):
        with torch.enable_grad():
            loss = mma_loss(weight, frame_norm)
        (gradient,) = torch.autograd.grad(loss, weight)
        weight.grad = gradient.masked_fill_(held, 0)
        optimizer.step()
    return weight.detach().T.double()


def mma_loss(weight: Tensor, frame_norm: float) -> Tensor:
    """Return the scalar norm loss plus angle loss (FedLoGe, Eqs. 4-5) of class vectors [C, d]."""
    norms: Tensor = torch.linalg.vector_norm(weight, dim=1)
    unit = weight / norms.clamp(min=1e-12).unsqueeze(1)
    with torch.no_grad():
        nearest = (unit @ unit.T).fill_diagonal_(-math.inf).argmax(dim=1)
    # Away from ±1, where the arccosine's slope is infinite.
    cosines = (unit * unit[nearest]).sum(dim=1).clamp(-1 + 1e-7, 1 - 1e-7)
    return (norms - frame_norm).square().sum() - torch.arccos(cosines).mean()
