"""The benchmark's past: one JSON line a run that was kept, and what became worse since."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.wire import code_fingerprint
from tests.benchmarks.bench_ratio import Ratio

HISTORY = Path(__file__).parent / "results" / "bench_history.jsonl"
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
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, ensure_ascii=False) + "\n")


def last(machine: str, path: Path = HISTORY) -> dict[str, Any] | None:
    """Return the last ratios of each row that were kept on this class of machine, with the date and code of the newest.

    Runs of single parts (`--only`) leave the others as they were.
    """
    if not path.exists():
        return None
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.strip()]
    fitting = [line for line in lines if line["machine"] == machine]
    if not fitting:
        return None
    ratios = {key: value for line in fitting for key, value in line["ratios"].items()}
    return fitting[-1] | {"ratios": ratios}


def regressions(ratios: Sequence[Ratio], machine: str, path: Path = HISTORY) -> list[str]:
    """Return a line for each ratio that is over 10 % worse than when last kept on this class of machine."""
    before = last(machine, path)
    if before is None:
        return []
    known = before["ratios"]
    return [
        f"{ratio.key}: {known[ratio.key]:.3f} → {ratio.value:.3f}"
        for ratio in ratios
        if ratio.key in known and ratio.value > WORSE * known[ratio.key]
    ]
