"""FedNC's speed as ratios of measurements that were taken side by side in one process run: a Markdown table.

Run from the repository root, on a machine with nothing else to do (`make bench` does it with --keep):
    python -m tests.benchmarks.bench
    python -m tests.benchmarks.bench --only overhead,wire --devices cpu
    python -m tests.benchmarks.bench --quick         # whether it works: its metrics mean nothing

Times are medians over laps that take turns; a goal is the project's own unless a docstring says otherwise. With
--keep the ratios are appended to results/bench_history.jsonl; every run says what is worse than the median of what was
kept on the same class of machine, and with --check it then fails.
"""

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from common.errors import unknown
from server_app.engines.flower_run import KEEP_MEMORY
from tests.benchmarks.bench_frames import frames
from tests.benchmarks.bench_growth import growth
from tests.benchmarks.bench_history import keep, regressions
from tests.benchmarks.bench_memory import coordinator_memory
from tests.benchmarks.bench_ratio import HEAD, Ratio, machine
from tests.benchmarks.bench_ray import overhead_ray
from tests.benchmarks.bench_scale import scale
from tests.benchmarks.bench_steps import steps
from tests.benchmarks.bench_training import against_peer, evaluation, method_cost, overhead
from tests.benchmarks.bench_trunk import trunk
from tests.benchmarks.bench_wire import wire_bytes
from tests.benchmarks.bench_work import QUICK, SIZES, Sizes

Part = Callable[[Sizes, Path, str], Iterator[Ratio]]


PARTS: dict[str, Part] = {
    "overhead": overhead,
    "ray": overhead_ray,
    "method": method_cost,
    "evaluation": evaluation,
    "wire": wire_bytes,
    "scale": scale,
    "peer": against_peer,
    "steps": steps,
    "trunk": trunk,
    "growth": growth,
    "memory": coordinator_memory,
    "frames": frames,  # last: what a large one leaves behind slows a process
}
ON_CPU_ALONE = ("frames", "wire", "memory")


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
    parser.add_argument("--check", action="store_true", help="exit with 1 where something became worse")
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
    print("\nWorse than usual on this class of machine:" if worse else "\nNothing is worse than usual.")
    print("\n".join(worse))
    if options.check and worse:
        sys.exit(1)


if __name__ == "__main__":
    if not KEEP_MEMORY.items() <= os.environ.items():  # glibc reads them at a process's start
        os.execve(sys.executable, [sys.executable, "-m", "tests.benchmarks.bench", *sys.argv[1:]],
                  {**os.environ, **KEEP_MEMORY})  # fmt: skip
    main()
