"""FedNC's speed as ratios of measurements that were taken side by side in one process run: a Markdown table.

Run from the repository root, on a machine with nothing else to do (`make bench` does it with --keep):
    python -m tests.benchmarks.bench
    python -m tests.benchmarks.bench --only overhead,wire --devices cpu
    python -m tests.benchmarks.bench --quick         # whether it works: its figures mean nothing

Times are medians over laps that take turns; a goal is the issue's unless the part's docstring says otherwise. With
--keep the ratios are appended to results/bench_history.jsonl; every run says what became worse since the last entries
of the same class of machine.
"""

import argparse
import logging
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from common.errors import unknown
from server_app.frames import Solver
from tests.benchmarks import bench_frames
from tests.benchmarks.bench_history import keep, regressions
from tests.benchmarks.bench_ratio import HEAD, Ratio, machine
from tests.benchmarks.bench_ray import overhead_ray
from tests.benchmarks.bench_scale import scale
from tests.benchmarks.bench_training import against_peer, evaluation, method_cost, overhead
from tests.benchmarks.bench_wire import wire_bytes
from tests.benchmarks.bench_work import QUICK, SIZES, Sizes

Part = Callable[[Sizes, Path, str], Iterator[Ratio]]


def frames(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield the seconds of sparse frames by projection ÷ dense ones; `bench_frames` has the table of all solvers."""
    for dim, classes in ((64, 10), (512, 100)) if sizes is not QUICK else ((16, 4),):
        options = Namespace(seed=0, sparsity=0.6, frame_norm=1.0)
        solvers: tuple[Solver | str, ...] = ("etf", "projection")
        found = [bench_frames.timed(options, dim, classes, solver) for solver in solvers]
        what = f"sparse frame ÷ dense ETF, d = {dim}, C = {classes}"
        dense, sparse = (f"{q.seconds:.3f} s, {q.angle_variance:.1e} deg²" for q in found)
        yield Ratio("frames", what, device, found[1].seconds / found[0].seconds, f"{sparse} / {dense}")


PARTS: dict[str, Part] = {
    "overhead": overhead,
    "ray": overhead_ray,
    "method": method_cost,
    "evaluation": evaluation,
    "frames": frames,
    "wire": wire_bytes,
    "scale": scale,
    "peer": against_peer,
}
ON_CPU_ALONE = ("frames", "wire")


def measure(parts: list[str], device: str, quick: bool) -> list[Ratio]:
    """Run parts on a device, print each row when it is there, and return them."""
    found = []
    with tempfile.TemporaryDirectory(prefix="fednc-bench-") as folder:
        for part in parts:
            if device == "cpu" or part not in ON_CPU_ALONE:
                for ratio in PARTS[part](QUICK if quick else SIZES[device], Path(folder), device):
                    print(ratio.line(), flush=True)
                    found.append(ratio)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts with commas: {', '.join(PARTS)}")
    parser.add_argument("--devices", default="cpu,cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works")
    parser.add_argument("--keep", action="store_true", help="append the ratios to the history")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    parts = options.only.split(",")
    for part in parts:
        if part not in PARTS:
            raise unknown("part", part, PARTS)
    for noisy in ("flwr", "fednc"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    print(HEAD)
    worse = []
    for device in options.devices.split(","):
        ratios = measure(parts, device, options.quick)
        name = machine(device)
        worse += [] if options.quick else regressions(ratios, name)
        if options.keep and not options.quick:
            keep(ratios, name)
    print("\nWorse than when last kept on this class of machine:" if worse else "\nNothing is worse than last kept.")
    print("\n".join(worse))


if __name__ == "__main__":
    main()
