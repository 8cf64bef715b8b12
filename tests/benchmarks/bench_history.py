"""The benchmark's past: one JSON line a run that was kept, and what became worse since."""

import json
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from common.installed import code_fingerprint
from tests.benchmarks.bench_ratio import Ratio

HISTORY = Path(__file__).parent / "results" / "bench_history.jsonl"
SMALL = 0.01  # a ratio below is as good as nothing
WORSE = 1.1  # times what it was: less is noise, even of medians of pairs


def keep(ratios: Sequence[Ratio], machine: str, path: Path = HISTORY) -> None:
    """Append what was measured on a class of machine; nothing measured, nothing written."""
    if not ratios:
        return
    line = {
        "date": datetime.now(UTC).date().isoformat(),
        "code": code_fingerprint()[:16],
        "machine": machine,
        "ratios": {ratio.key: round(ratio.value, 4) for ratio in ratios},
        "absolute": {ratio.key: ratio.absolute for ratio in ratios},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def usual(machine: str, path: Path = HISTORY) -> dict[str, float]:
    """Return the median of each row's ratios that were kept on this class of machine.

    Of all of them, not the last one: a ratio that creeps upwards a little each time must show too.
    """
    if not path.exists():
        return {}
    kept: dict[str, list[float]] = defaultdict(list)
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text) if text.strip() else {"machine": None}
        if line["machine"] == machine:
            for key, value in line["ratios"].items():
                kept[key].append(value)
    return {key: median(values) for key, values in kept.items()}


def regressions(ratios: Sequence[Ratio], machine: str, path: Path = HISTORY) -> list[str]:
    """Return a line for each ratio that is over 10 % worse than usual on this class of machine."""
    known = usual(machine, path)
    return [
        f"{ratio.key}: {known[ratio.key]:.3f} → {ratio.value:.3f}"
        for ratio in ratios
        if ratio.key in known and ratio.value > max(SMALL, WORSE * known[ratio.key])
    ]
