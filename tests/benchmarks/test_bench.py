"""Each part of the benchmark runs at tiny sizes, and the history says what became worse."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import bench
from tests.benchmarks.bench import PARTS, main, measure
from tests.benchmarks.bench_growth import at, kind_of, resident
from tests.benchmarks.bench_history import HISTORY, keep, regressions, usual
from tests.benchmarks.bench_images import main as time_images
from tests.benchmarks.bench_ratio import Ratio, machine, paired
from tests.benchmarks.bench_turns import Lap, take_turns


@pytest.fixture(autouse=True)
def _quiet() -> None:
    logging.getLogger("flwr").setLevel(logging.ERROR)


# Ray takes minutes to start and end as often as these do: `make bench BENCH="--quick --only ray,growth"` tries them
IN_RAY = ("ray", "growth")


@pytest.mark.parametrize("part", [part for part in PARTS if part not in IN_RAY])
def test_a_part_measures_something(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    ratios = measure([part], "cpu", quick=True)
    assert ratios and all(ratio.value > 0 and ratio.part == part for ratio in ratios)
    assert capsys.readouterr().out.splitlines() == [ratio.line() for ratio in ratios]


def test_the_command_prints_one_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--only", "frames", "--devices", "cpu", "--keep"])
    before = HISTORY.read_bytes() if HISTORY.exists() else None
    main()
    head, rule, row = capsys.readouterr().out.splitlines()[:3]
    assert head.count("|") == rule.count("|") == row.count("|") and row.startswith("| frames | sparse frame")
    assert (HISTORY.read_bytes() if HISTORY.exists() else None) == before  # tiny sizes are never kept


def test_the_images_table_has_a_row_for_each_place_of_pixels(capsys: pytest.CaptureFixture[str]) -> None:
    time_images(["--images", "12", "--side", "64", "--image-size", "16", "--memory", "1"])
    title, _, *rows = capsys.readouterr().out.splitlines()
    assert title.startswith("12 files, 0 MiB of pixels, 1 allowed") and len(rows) == 7


def ratio(value: float, goal: float | None = None) -> Ratio:
    return Ratio("part", "a ÷ b", "cpu", value, "2 s / 1 s", goal)


def test_a_row_says_whether_its_goal_is_met() -> None:
    assert "| ≤ 1.05 | met |" in ratio(1.05, 1.05).line()
    assert "| ≤ 1.05 | **not met** |" in ratio(1.051, 1.05).line()
    assert "| – | – |" in ratio(3).line()
    assert paired([2, 9, 4], [1, 3, 4]) == 2
    assert machine("cpu").startswith("cpu, ")


def test_the_history_names_what_became_worse_on_the_same_class_of_machine(tmp_path: Path) -> None:
    path = tmp_path / "results" / "history.jsonl"
    assert usual("cpu, 2 cores", path) == {} and regressions([ratio(9)], "cpu, 2 cores", path) == []
    keep([], "cpu, 2 cores", path)
    assert not path.exists()
    keep([ratio(1.0)], "cpu, 2 cores", path)
    keep([Ratio("wire", "x", "cpu", 1.0, "")], "cpu, 2 cores", path)  # of one part alone
    keep([ratio(5.0)], "cpu, 64 cores", path)
    assert regressions([ratio(1.09)], "cpu, 2 cores", path) == []
    assert regressions([ratio(1.2)], "cpu, 2 cores", path) == ["part: a ÷ b (cpu): 1.000 → 1.200"]
    assert regressions([ratio(1.2)], "cpu, 64 cores", path) == []


def test_what_creeps_upwards_is_noticed_and_what_is_next_to_nothing_is_not(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    told = []
    for step in range(10):
        now = [ratio(1.03**step), Ratio("frames", "variance", "cpu", 1e-9 * 10**step, "")]
        told.append(regressions(now, "cpu, 2 cores", path))
        keep(now, "cpu, 2 cores", path)
    assert not told[1] and not told[2]  # 3 and 6 % are noise
    assert told[-1] == [f"part: a ÷ b (cpu): {round(1.03**4, 4):.3f} → 1.305", "frames: variance (cpu): 0.000 → 1.000"]
    kept = json.loads(path.read_text().splitlines()[0])
    assert kept["absolute"]["part: a ÷ b (cpu)"] == "2 s / 1 s"


def test_the_command_fails_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measure", lambda *_: [ratio(2.0)])
    monkeypatch.setattr(bench, "regressions", lambda *_: ["worse"])
    for words, code in ((["--devices", "cpu"], None), (["--devices", "cpu", "--check"], 1)):
        monkeypatch.setattr(sys, "argv", ["bench", *words])
        if code is None:
            main()
            continue
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code


def test_memory_is_read_by_kind_of_process() -> None:
    commands = {
        "python3 /x/bin/flower-superlink --insecure": "SuperLink",
        "python3 /x/bin/flwr-simulation --run-id 1": "coordinator",
        "ray::ClientAppActor.run": "workers",
        "/x/site-packages/ray/core/src/ray/raylet/raylet --a": "Ray's services",
        "sleep 3": "others",
    }
    assert {command: kind_of(command) for command in commands} == commands
    script = "import time; print('up', flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == b"up\n"
        assert resident(os.getpid())["others"] > 1
    finally:
        child.kill()
        child.wait()
    readings = [(1.0, {"workers": 1.0}), (2.0, {"workers": 2.0})]
    assert [at(readings, moment)["workers"] for moment in (0.5, 1.5, 9)] == [1, 1, 2]


def test_a_childs_peak_memory_is_its_own() -> None:
    """And not its parent's, which has held 500 MB."""
    tell = "from tests.benchmarks.bench_ratio import peak; print(peak(), flush=True)"
    hold = "import numpy; numpy.ones(500 << 17)"
    ask = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {tell!r}], check=True)"
    code = "\n".join((tell, hold, tell, ask))
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    before, parents, childs = map(float, done.stdout.split())
    assert parents > before + 490 and childs < before + 100


def test_work_takes_turns_and_the_first_lap_does_not_count() -> None:
    seen: list[str] = []

    def work(name: str) -> object:
        def laps(lap: Lap) -> None:
            while True:
                lap()
                seen.append(name)

        return laps

    found = take_turns({"a": work("a"), "b": work("b")}, laps=2)  # type: ignore[dict-item]
    assert "".join(seen) == "abbaab"  # the order changes
    assert {name: len(times) for name, times in found.items()} == {"a": 2, "b": 2}


def test_work_that_fails_or_ends_too_soon_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        take_turns({"a": lambda lap: 1 / 0}, laps=1)
    with pytest.raises(RuntimeError, match="before it had all its laps"):
        take_turns({"a": lambda lap: lap()}, laps=1)
