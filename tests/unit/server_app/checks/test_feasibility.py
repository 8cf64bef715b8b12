"""What cannot run is refused before anything starts, all of it at once."""

from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import APP_ROOT, Experiment
from common.errors import MistakesError, UserError, run_all
from server_app import cli
from server_app.checks.feasibility import check_all, check_simulated
from server_app.compare import results as compare_results
from server_app.compare import runner as compare
from server_app.compare.studies import STUDIES
from server_app.engines import engines

Tiny = Callable[..., Experiment]
DIGITS = str(APP_ROOT / "configs" / "digits_lt.yaml")
COMPOSITES = str(APP_ROOT / "configs" / "digits_multilabel.yaml")


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FEDNC_RUNS", str(tmp_path / "runs"))
    for module, name in ((compare, "_start"), (engines, "run"), (engines, "flower_run")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("something has started"))


def errors_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Return the lines on standard error of a command that fails."""
    monkeypatch.setattr("sys.argv", ["fednc", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("command", ["run", "compare", "tune"])
def test_a_deployed_experiment_says_in_one_line_what_to_do(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "deployed.yaml"
    path.write_text("partition: deployed\nclasses: [cat, dog]\nimage-size: 8\n", encoding="utf-8")
    lines = errors_of(monkeypatch, capsys, command, str(path), *(["--grid", "width=4,8"] if command == "tune" else []))
    assert len(lines) == 1 and "--superlink CONNECTION" in lines[0]


def test_a_comparison_names_all_methods_that_cannot_take_the_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = errors_of(monkeypatch, capsys, "compare", DIGITS, "--methods", "fednca_ml,fedavg,fedloge_ml")
    assert lines[0] == "error: 2 mistakes"
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["method = 'fednca_ml'", "method = 'fedloge_ml'"]
    lines = errors_of(monkeypatch, capsys, "compare", COMPOSITES, "--methods", "fedloge,fedavg,creff", "--seeds", "0")
    assert len(lines) == 3 and "'fedloge'" in lines[1] and "'creff'" in lines[2]


def test_all_contradictions_of_a_comparisons_cells_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("tuned:\n  fedavg: {rounds: 3}\n  fedper: {learning-rate: 0}\n", encoding="utf-8")
    lines = errors_of(monkeypatch, capsys, "compare", str(path), "partition=natural", "--methods", "fedavg,fedper")
    assert len(lines) == 4
    assert any("partition = 'natural' needs site-key" in line and "command line" in line for line in lines[1:])
    assert any("tuned: fedper: learning-rate = 0" in line for line in lines[1:])


def test_unknown_methods_and_studies_are_all_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = errors_of(monkeypatch, capsys, "compare", DIGITS, "--methods", "fedavgg,fedper,fedlog")
    assert len(lines) == 3 and "fedavgg" in lines[1] and "fedlog" in lines[2]
    lines = errors_of(monkeypatch, capsys, "compare", DIGITS, "--study", "tabel3,fig6")
    assert len(lines) == 3 and "tabel3" in lines[1] and "fig6" in lines[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", DIGITS, "--methods", "fedavg", "--study", "table8,fig4"], 4),
        (["compare", DIGITS, "fedprox-mu=3", "--methods", "fedavg,fedper"], 1),
        (["tune", DIGITS, "--method", "fedavg", "--grid", "fedprox-mu=1,2"], 1),
        (["tune", DIGITS, "--method", "fedavg", "--grid", "round=1,2", "--grid", "width=0,-1"], 3),
        (["run", DIGITS, "method=fedavg", "frame-norm=0.1", "sparsity=0.5"], 2),
        (["run", DIGITS, "multilabel-loss=focal"], 1),
        (["run", COMPOSITES, "loss=focal", "method=fedavg"], 1),
        (["run", COMPOSITES, "label-smoothing=.1", "method=fedrod"], 1),
        (["run", DIGITS, "loss=focal", "method=fedgrab"], 1),
        (["run", DIGITS, "label-smoothing=.1", "method=ratio_loss"], 1),
        (["run", DIGITS, "prior-temperature=2", "method=fedrod"], 1),
    ],
)
def test_keys_that_act_nowhere_are_refused(
    words: list[str], said: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = errors_of(monkeypatch, capsys, *words)
    assert len(lines) == (1 if said == 1 else said + 1), lines


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_can_be_run_as_it_is(study: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(compare, "compare", lambda cells, *_: ran.extend(cells))
    monkeypatch.setattr(compare_results, "write_results", lambda *_: "")
    several = any(name in study for name in ("attention", "_ml"))
    cli.compare(COMPOSITES if several else DIGITS, ["rounds=1"], study=study, seeds="0")
    assert len(ran) >= len(STUDIES[study])


def test_a_comparison_takes_keys_that_one_of_its_methods_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    monkeypatch.setattr(compare, "compare", lambda cells, *_: ran.extend(cells))
    monkeypatch.setattr(compare_results, "write_results", lambda *_: "")
    cli.compare(DIGITS, ["fedprox-mu=1", "frame-norm=0.1"], methods="fedprox,fedloge", seeds="0,1")
    assert [cell.stem for cell in ran] == ["fedprox-seed0", "fedloge-seed0", "fedprox-seed1", "fedloge-seed1"]


def test_what_cannot_be_had_of_the_data_is_named_for_every_variant(tiny: Tiny) -> None:
    with pytest.raises(MistakesError) as caught:
        check_all([tiny(sites=1000, min_site_size=5), tiny(), tiny(backbone="resnet50", width=None, sites=900)])
    assert len(caught.value.found) == 2
    check_all([tiny(seed=seed) for seed in (0, 1)])
    with pytest.raises(UserError, match="--superlink CONNECTION"):
        check_simulated(tiny(partition="deployed", classes=["a", "b"]))


def test_mistakes_of_mistakes_stay_a_flat_list() -> None:
    def fail(*found: tuple[str, str]) -> None:
        raise MistakesError(found)

    def fail_plainly() -> None:
        raise UserError("z")

    with pytest.raises(MistakesError) as caught:
        run_all([lambda: fail(("a", "x"), ("b", "y")), lambda: None, fail_plainly, lambda: fail(("a", "x"))])
    assert caught.value.found == [("a", "x"), ("b", "y"), ("", "z")]
