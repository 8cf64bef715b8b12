"""Peak memory of the coordinator by the number of sites: a Markdown table, and the ratio of the last row to the first.

Every count runs in a process of its own: `FedStrategy` over `StreamingGrid`, against a link that has the replies of
all sites ready at once, as a SuperLink may. The model is a ResNet-18 (45 MB). Run from the repository root:
    python -m tests.benchmarks.bench_memory
    python -m tests.benchmarks.bench_memory --sites 10 200 --aggregation median
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.benchmarks.bench_ratio import Ratio, peak
from tests.benchmarks.bench_work import Sizes

LIMIT = 1.15  # what the last row may be of the first


class Link:
    """A SuperLink that keeps no message and makes each reply when it is asked for, a copy of the model of its own."""

    def __init__(self, metrics: dict[str, float]) -> None:
        self._metrics, self._asked = metrics, {}  # type: dict[str, float], dict[str, Any]

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        names = []
        for message in messages:
            names.append(f"m{len(self._asked)}")
            message.metadata.__dict__["_message_id"] = names[-1]
            self._asked[names[-1]] = message
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        return [self._reply(self._asked.pop(name)) for name in list(message_ids)]

    def _reply(self, message: Any) -> Any:
        from flwr.app import Array, ArrayRecord

        from common import wire

        sent = message.content.array_records["model"]
        reply = wire.metrics_reply(message, self._metrics)
        arrays = {n: Array(a.dtype, a.shape, a.stype, bytes(bytearray(a.data))) for n, a in sent.items()}
        reply.content["model"] = ArrayRecord(arrays)
        return reply


def measure(sites: int, rounds: int, aggregation: str) -> dict[str, float]:
    """Run some rounds and return peak MB, that of imports and model alone, MB of the model, seconds a round."""
    from flwr.clientapp import ClientApp

    from common import wire
    from common.config import build
    from common.methods import METHODS
    from common.models.model import build_model, shared_state
    from server_app.grids.local_grid import LocalGrid
    from server_app.grids.streaming import StreamingGrid
    from server_app.methods import load as load_method
    from server_app.rounds.strategy import FedStrategy
    from server_app.run.journal import Journal, quiet_logging
    from server_app.sites.discovery import SiteFacts

    quiet_logging()
    LocalGrid(ClientApp(), 0)  # Flower stamps messages with the process's identity
    with tempfile.TemporaryDirectory() as folder:
        experiment = build(
            {"method": "fedavg", "backbone": "resnet18", "rounds": rounds, "evaluate-every": rounds + 1, "sites": sites}
            | {"aggregation": aggregation, "output-dir": folder}
        )
        arrays = shared_state(build_model(experiment, 3, 10), METHODS["fedavg"])
        facts = {f"site-{i:03}": SiteFacts(i + 1, 50, 10) for i in range(sites)}
        federation: Any = SimpleNamespace(dataset=SimpleNamespace(classes=range(10)))
        method = load_method("fedavg")(experiment, federation)
        evaluation: Any = lambda arrays: {}  # noqa: E731
        journal = Journal(Path(folder) / "run", experiment)
        strategy = FedStrategy(experiment, facts, journal, None, evaluation, method)
        before, began = peak(), time.perf_counter()
        link: Any = Link({"num-examples": 50, "loss-backbone": 1.0})
        strategy.start(StreamingGrid(link), wire.pack(arrays), rounds)
        seconds = (time.perf_counter() - began) / rounds
        model = sum(array.nbytes for array in arrays.values()) / 1e6
        assert strategy.finished == rounds
        return {"peak": peak(), "before": before, "model": model, "seconds": seconds}


def measured_apart(sites: int, rounds: int, aggregation: str = "mean") -> dict[str, float]:
    """Return what `measure` does, of a process of its own."""
    words = ["--measure", str(sites), "--rounds", str(rounds), "--aggregation", aggregation]
    command = [sys.executable, "-m", "tests.benchmarks.bench_memory", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def coordinator_memory(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield the coordinator's peak memory with many sites ÷ with few; the models are ResNet-18s."""
    few, many = (10, 100) if sizes.rounds == Sizes.rounds else (2, 4)
    found = {sites: measured_apart(sites, rounds=1)["peak"] for sites in (few, many)}
    what = f"coordinator's peak memory with {many} sites ÷ with {few}, resnet18"
    absolute = f"{found[many]:.0f} MB / {found[few]:.0f} MB"
    yield Ratio("memory", what, device, found[many] / found[few], absolute, LIMIT)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", nargs="+", type=int, default=[10, 100])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--aggregation", default="mean", choices=["mean", "median", "trimmed-mean", "multi-krum"])
    parser.add_argument("--measure", type=int, help="measure one number of sites in this process, and print JSON")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.measure:
        print(json.dumps(measure(options.measure, options.rounds, options.aggregation)))
        return
    print("| sites | model MB | peak MB | before the first round MB | s a round |")
    print("|--:|--:|--:|--:|--:|")
    peaks = []
    for sites in options.sites:
        found = measured_apart(sites, options.rounds, options.aggregation)
        peaks.append(found["peak"])
        figures = f"{found['model']:.1f} | {found['peak']:.0f} | {found['before']:.0f} | {found['seconds']:.1f}"
        print(f"| {sites} | {figures} |", flush=True)
    ratio = peaks[-1] / peaks[0]
    print(f"\nratio {ratio:.3f}, allowed {LIMIT} for the mean")
    if options.aggregation == "mean" and ratio > LIMIT:
        sys.exit(1)


if __name__ == "__main__":
    main()
