"""Memory of a long run in Flower's simulation: the last tenth of its rounds ÷ the second tenth, by kind of process.

Resident memory is read from /proc (Linux) several times a second, of all processes that the run starts.
"""

import io
import os
import threading
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from pathlib import Path
from statistics import median

from server_app.engines.engines import run_flower
from server_app.run.journal import read_events
from tests.benchmarks.bench_ratio import Ratio
from tests.benchmarks.bench_work import Sizes, experiment_of

GOAL = 1.05
_SECONDS = 0.2  # between two readings
_MB = 1 << 20

Reading = tuple[float, dict[str, float]]  # when, and MB by kind of process


def growth(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a row a kind of process: Flower's SuperLink, the coordinator, the workers, Ray's own services."""
    experiment = experiment_of(sizes, folder, device, backbone="cnn", sites=2, images=sizes.batch, rounds=sizes.rounds)
    readings: list[Reading] = []
    over = threading.Event()
    reader = threading.Thread(target=_read, args=(readings, over))
    reader.start()
    try:
        with redirect_stdout(io.StringIO()):
            run_flower(experiment)
    finally:
        over.set()
        reader.join()
    assert experiment.run.run_name is not None
    ends = [
        e["time"] for e in read_events(experiment.run.output_dir / experiment.run.run_name) if e["event"] == "round"
    ]
    tenth = max(1, len(ends) // 10)
    early, late = ends[tenth : 2 * tenth], ends[-tenth:]
    for kind in sorted({kind for _, found in readings for kind in found}):
        if kind in at(readings, early[0]) and kind in at(readings, late[-1]):
            first, last = (median(at(readings, end).get(kind, 0.0) for end in part) for part in (early, late))
            what = f"memory in the last {tenth} of {len(ends)} Ray rounds ÷ in rounds {tenth} to {2 * tenth}, {kind}"
            yield Ratio("growth", what, device, last / first, f"{last:.0f} MB / {first:.0f} MB", GOAL)


def at(readings: list[Reading], moment: float) -> dict[str, float]:
    """Return the last reading before a moment, or the first of all."""
    return readings[max(0, bisect_right([when for when, _ in readings], moment) - 1)][1]


def _read(readings: list[Reading], over: threading.Event) -> None:
    while not over.is_set():
        readings.append((time.time(), resident(os.getpid())))
        over.wait(_SECONDS)


def resident(ancestor: int) -> dict[str, float]:
    """Return MB of resident memory of a process's descendants, by kind."""
    children: dict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):  # it has ended meanwhile
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children[parent].append(int(folder.name))
    found: dict[str, float] = defaultdict(float)
    waiting = list(children[ancestor])
    while waiting:
        process = waiting.pop()
        waiting += children[process]
        with suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{process}/cmdline").read_text(errors="replace").replace("\0", " ")
            pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
            found[kind_of(words)] += pages * os.sysconf("SC_PAGE_SIZE") / _MB
    return dict(found)


def kind_of(command: str) -> str:
    """Return what a process of a run is, by its command line."""
    first = command.split("ray::", 1)
    if not first[0].strip() and len(first) > 1:
        return "workers"
    for word, kind in (("flower-superlink", "SuperLink"), ("flwr-simulation", "coordinator")):
        if word in command:
            return kind
    return "Ray's services" if "/ray/" in command else "others"
