"""Time and measure frames: a Markdown table by (d, C, solver).

Run from the repository root:
    python -m tests.benchmarks.bench_frames
    python -m tests.benchmarks.bench_frames --sizes 512x100 --solvers etf projection mma --sparsity 0.6
"""

import argparse
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from server_app.frames.build import FrameQuality, Solver, etf, measure, sparse_etf
from server_app.frames.solvers import MmaOptions
from tests.benchmarks.bench_ratio import Ratio, paired, seconds
from tests.benchmarks.bench_work import QUICK, Sizes

_STEPS = {(16, 4): 10, (64, 10): 500, (512, 100): 100, (2048, 1000): 5}  # of `mma`, which needs 10,000
_VARIANCE = 0.03  # deg², the least of FedLoGe's Table 6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["64x10", "512x100", "2048x1000"], metavar="DIMxCLASSES")
    parser.add_argument("--solvers", nargs="+", default=["etf", "projection"], choices=["etf", "projection", "mma"])
    parser.add_argument("--sparsity", type=float, default=0.6)
    parser.add_argument("--frame-norm", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--mma-optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--mma-learning-rate", type=float, default=1e-4)
    parser.add_argument("--mma-steps", type=int, default=10_000)
    return parser.parse_args()


def timed(options: argparse.Namespace, dim: int, num_classes: int, solver: str) -> FrameQuality:
    """Build one frame and return its quality, seconds included."""
    generator = torch.Generator().manual_seed(options.seed)
    began = time.perf_counter()
    if solver == "etf":
        frame = etf(num_classes, dim, generator, options.frame_norm)
    else:
        kind: Solver = "mma" if solver == "mma" else "projection"
        mma = MmaOptions()
        if solver == "mma":
            mma = MmaOptions(options.mma_optimizer, options.mma_learning_rate, options.mma_steps)
        frame = sparse_etf(num_classes, dim, generator, options.sparsity, options.frame_norm, kind, mma)
    return measure(frame, time.perf_counter() - began, solver)


def row(options: argparse.Namespace, dim: int, num_classes: int, solver: str) -> str:
    quality = timed(options, dim, num_classes, solver)
    angles = f"{quality.angle_mean:.4f} | {quality.angle_variance:.1e} | {quality.angle_min:.4f}"
    rest = f"{quality.norm_variance:.1e} | {quality.sparsity:.4f}"
    return f"| {dim} | {num_classes} | {solver} | {quality.seconds:.2f} | {angles} | {rest} |"


def frames(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield, by (d, C), the seconds of the solvers side by side, and the sparse frame's angle variance ÷ the paper's.

    `mma` runs some of its 10,000 steps only: its seconds are those of all of them, reckoned from these.
    """
    torch.set_num_threads(1)
    for dim, classes in list(_STEPS)[:1] if sizes is QUICK else list(_STEPS)[1:]:
        options = Namespace(seed=0, sparsity=0.6, frame_norm=1.0, mma_optimizer="adam", mma_learning_rate=1e-4)
        options.mma_steps = _STEPS[dim, classes]
        solvers = ("etf", "projection", "mma")
        turns = [[timed(options, dim, classes, s) for s in solvers] for _ in range(max(1, sizes.laps) + 1)][1:]
        dense, sparse, mma = ([quality.seconds for quality in solver] for solver in zip(*turns, strict=True))
        mma = [spent * MmaOptions.steps / options.mma_steps for spent in mma]
        where = f"d = {dim}, C = {classes}"
        yield Ratio(
            "frames", f"sparse frame ÷ dense ETF, {where}", device, paired(sparse, dense), seconds(sparse, dense)
        )
        what = f"sparse frame ÷ by gradient (from {options.mma_steps} steps), {where}"
        yield Ratio("frames", what, device, paired(sparse, mma), seconds(sparse, mma))
        variance = median(qualities[1].angle_variance for qualities in turns)
        what = f"angle variance of the sparse frame ÷ the paper's least, {where}"
        yield Ratio("frames", what, device, variance / _VARIANCE, f"{variance:.1e} deg² / {_VARIANCE} deg²", 1.0)


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    etf(3, 4, torch.Generator())  # the first call of a process loads libraries
    print("| d | C | solver | seconds | mean angle ° | variance deg² | least ° | norm variance | sparsity |")
    print("|--:|--:|---|--:|--:|--:|--:|--:|--:|")
    for size in options.sizes:
        dim, num_classes = (int(part) for part in size.split("x"))
        for solver in options.solvers:
            print(row(options, dim, num_classes, solver), flush=True)


if __name__ == "__main__":
    main()
