"""Fixed classifiers (frames): the simplex ETF and its sparse form, with a record of how exact they came out.

FedLoGe (Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977): Eq. 2 is the ETF, Eqs. 3-5 the sparse one
(SSE-C). Rows are class vectors, shape [C, d]. In a simplex ETF every two of them meet at arccos(-1/(C-1)).

A simplex ETF of C classes spans C-1 dimensions. With fewer (d < C-1) there is none: both kinds of frame then
hold unit vectors pushed apart so that the largest cosine is as small as the solver can make it, and a warning
says which angle was reached.
"""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from common.config import Experiment
from common.errors import UserError
from common.models.model import frame_kind
from common.seeds import torch_generator
from server_app.frames.initialisations import INITIALISATIONS, sparse_random
from server_app.frames.masks import draw_mask
from server_app.frames.padded import padded_etf
from server_app.frames.solvers import EXACT, MmaOptions, gram_residual, mma, projection, spread, unit_columns

log = logging.getLogger("fednc.frames")

Solver = Literal["projection", "mma"]

# Below so many entries a random mask often admits no exact frame, and trying another costs milliseconds.
_SMALL, _MASKS = 4096, 20


@dataclass(frozen=True)
class FrameQuality:
    """How near a frame is to its definition, measured in float64 on the float32 values that are sent.

    Attributes:
        norm_mean: mean norm of the class vectors.
        norm_variance: population variance of the norms.
        angle_mean: mean angle over all pairs of classes, degrees.
        angle_variance: population variance of those angles, deg².
        angle_min: smallest angle, degrees.
        angle_max: largest angle, degrees.
        sparsity: share of entries that are exactly zero.
        seconds: wall time of the construction.
        solver: `closed-form`, `projection`, `mma`, `spread` where d < C-1, or `drawn`.
    """

    norm_mean: float
    norm_variance: float
    angle_mean: float
    angle_variance: float
    angle_min: float
    angle_max: float
    sparsity: float
    seconds: float
    solver: str


def measure(frame: Tensor, seconds: float = 0.0, solver: str = "") -> FrameQuality:
    """Measure a frame [C, d], C >= 2, with no zero row."""
    exact = frame.detach().cpu().double()
    norms: Tensor = torch.linalg.vector_norm(exact, dim=1)
    unit = exact / norms.unsqueeze(1)
    first, second = torch.triu_indices(len(unit), len(unit), offset=1)
    angles = torch.rad2deg(torch.arccos((unit @ unit.T)[first, second].clamp(-1, 1)))
    return FrameQuality(
        norm_mean=norms.mean().item(),
        norm_variance=norms.var(correction=0).item(),
        angle_mean=angles.mean().item(),
        angle_variance=angles.var(correction=0).item(),
        angle_min=angles.min().item(),
        angle_max=angles.max().item(),
        sparsity=(exact == 0).double().mean().item(),
        seconds=seconds,
        solver=solver,
    )


def etf(num_classes: int, dim: int, generator: torch.Generator, frame_norm: float = 1.0) -> Tensor:
    """Build a random simplex ETF (FedLoGe, Eq. 2): γ √(C/(C-1)) (I - 11'/C) U' with U'U = I.

    Exact for d >= C-1; the best spread found below that (module docstring).

    Args:
        num_classes: C, at least 2.
        dim: d, the feature dimension.
        generator: the only source of randomness.
        frame_norm: γ, the norm of every class vector.

    Returns:
        float32 [C, d].

    Raises:
        UserError: fewer than two classes.

    Example:
        >>> import torch
        >>> frame = etf(3, 8, torch.Generator().manual_seed(0))
        >>> gram = frame @ frame.T  # 1 on the diagonal, −1/(C−1) beside it
        >>> torch.allclose(gram, torch.full((3, 3), -0.5) + 1.5 * torch.eye(3), atol=1e-5)
        True
    """
    frame = _start(num_classes, dim, generator)
    if dim < num_classes - 1:
        frame = spread(frame, torch.ones_like(frame))
    return _finish(frame, frame_norm)


def sparse_etf(
    num_classes: int,
    dim: int,
    generator: torch.Generator,
    sparsity: float = 0.6,
    frame_norm: float = 1.0,
    solver: Solver = "projection",
    mma_options: MmaOptions | None = None,
) -> Tensor:
    """Build a sparse ETF (FedLoGe's SSE-C) with round(sparsity d C) zeros at random places.

    `mma` is the paper's Eqs. 3-5. `projection` reaches the exact geometry wherever the mask admits one, and
    the nearest it finds elsewhere; for small frames it draws up to 20 masks before it settles for that.

    Args:
        num_classes: C, at least 2.
        dim: d, the feature dimension.
        generator: the only source of randomness.
        sparsity: share of zeros, in [0, 1). Of very few classes an entry can be left without a partner in its
            feature (two classes and an odd number of entries, say); it then ends as one zero more.
        frame_norm: γ, the norm of every class vector (`mma`: nearly).
        solver: `projection` or `mma`.
        mma_options: for `mma`; the paper's if not given.

    Returns:
        float32 [C, d].

    Raises:
        UserError: fewer than two classes, or a sparsity that leaves some class without an entry.

    Example:
        >>> import torch
        >>> frame = sparse_etf(4, 32, torch.Generator().manual_seed(0), sparsity=0.6)
        >>> quality = measure(frame)
        >>> round(quality.angle_mean, 2), round(quality.sparsity, 2)  # arccos(−1/3)
        (109.47, 0.6)
    """
    start = _start(num_classes, dim, generator)
    if solver == "mma":
        mask = draw_mask(num_classes, dim, sparsity, generator)
        frame = mma(frame_norm * start, mask, frame_norm, mma_options or MmaOptions())
        return _finish(frame, 1.0)
    if dim < num_classes - 1:
        frame = spread(start, draw_mask(num_classes, dim, sparsity, generator))
    else:
        frame = _best_projection(start, lambda: draw_mask(num_classes, dim, sparsity, generator))
    return _finish(frame, frame_norm)


def build_frame(experiment: Experiment, num_classes: int, dim: int) -> tuple[Tensor, FrameQuality]:
    """Build the experiment's frame from its seed, and log its quality in one line.

    Args:
        experiment: `seed`, `frame`, `frame_solver`, `sparsity`, `frame_norm`, `mma_*`.
        num_classes: C.
        dim: d, the backbone's `feature_dim`.

    Returns:
        The frame, float32 [C, d], and its quality.

    Raises:
        UserError: fewer than two classes, or a sparsity that leaves some class without an entry.
    """
    generator = torch_generator(experiment.run.seed, "frame")
    began = time.perf_counter()
    kind = frame_kind(experiment)
    # a query's norm is 1, and so is FedETF's frame: `frame-norm` is FedLoGe's
    norm = experiment.options.fixed_frame_norm
    if kind in ("etf", "padded_etf"):
        frame = etf(num_classes, dim, generator, norm) if kind == "etf" else padded_etf(num_classes, dim, norm)
        solver = "closed-form"
    elif kind in INITIALISATIONS:
        generator = torch_generator(experiment.run.seed, f"frame-{kind}")
        frame, solver = sparse_random(kind, num_classes, dim, generator, experiment.model.sparsity), "drawn"
    else:
        options = MmaOptions(
            experiment.model.mma_optimizer, experiment.model.mma_learning_rate, experiment.model.mma_steps
        )
        solver = experiment.model.frame_solver
        frame = sparse_etf(
            num_classes,
            dim,
            generator,
            experiment.model.sparsity,
            norm,
            experiment.model.frame_solver,
            options,
        )
    if dim < num_classes - 1 and solver not in ("mma", "drawn"):
        solver = "spread"
    quality = measure(frame, time.perf_counter() - began, solver)
    log.info(
        "frame %s (%s), %d classes in %d dimensions: angle %.4f° (variance %.1e deg²), "
        "norm %.4g (variance %.1e), sparsity %.3f, %.1f s",
        *(kind, solver, num_classes, dim, quality.angle_mean, quality.angle_variance),
        *(quality.norm_mean, quality.norm_variance, quality.sparsity, quality.seconds),
    )
    return frame, quality


def _start(num_classes: int, dim: int, generator: torch.Generator) -> Tensor:
    """Return Eq. 2's matrix, float64 [d, C] with unit columns; random unit columns where d < C-1."""
    if num_classes < 2:
        raise UserError(f"a frame needs at least two classes, the data set has {num_classes}: check dataset, data-dir")
    if dim < num_classes - 1:
        return unit_columns(torch.randn(dim, num_classes, generator=generator, dtype=torch.float64))
    # U(I - 11'/C) = V B' for a basis B of the complement of 1 and V = U B: V needs C-1 dimensions, U needs C.
    columns = torch.eye(num_classes, dtype=torch.float64)
    columns[:, 0] = 1
    basis: Tensor = torch.linalg.qr(columns)[0][:, 1:]
    gaussian = torch.randn(dim, num_classes - 1, generator=generator, dtype=torch.float64)
    orthonormal: Tensor = torch.linalg.qr(gaussian)[0]
    return math.sqrt(num_classes / (num_classes - 1)) * orthonormal @ basis.T


def _best_projection(start: Tensor, draw: Callable[[], Tensor]) -> Tensor:
    """Return the first exact frame among a few masks, or the nearest to one."""
    best, least = start, math.inf
    for _ in range(_MASKS if start.numel() <= _SMALL else 1):
        frame = projection(start, draw())
        if (residual := gram_residual(frame)) < least:
            best, least = frame, residual
        if least < EXACT * start.shape[1]:
            break
    return best


def _finish(columns: Tensor, scale: float) -> Tensor:
    dim, num_classes = columns.shape
    frame = (scale * columns).T.float().contiguous()
    if dim < num_classes - 1:
        reached = measure(frame)
        log.warning(
            "no simplex ETF of C = %d classes exists in d = %d dimensions (it needs %d): "
            "pushed apart to a smallest angle of %.2f°, mean %.2f°",
            *(num_classes, dim, num_classes - 1, reached.angle_min, reached.angle_mean),
        )
    return frame
