import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from common.config import APP_ROOT, DEFAULT_CONFIG, Experiment, from_run_config, load
from common.config.rows import keys_where
from common.errors import UserError
from server_app import cli
from server_app.engines.engines import CLIENT_APP
from server_app.engines.flower_run import run_config


def test_flower_knows_the_everyday_keys_with_the_default_configurations_values() -> None:
    """Flower refuses run-config keys that pyproject.toml does not list."""
    project = tomllib.loads((APP_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["flwr"]["app"]["config"]
    everyday = keys_where(lambda facts: facts.everyday)
    assert listed.keys() == {"config", "overrides"} | everyday and len(everyday) == 12
    plain = load(listed["config"]).dump()
    assert listed["config"] == DEFAULT_CONFIG and listed["overrides"] == ""
    assert {key: listed[key] for key in everyday if listed[key] != ""} == {
        key: plain[key] for key in everyday if plain[key] is not None and key != "output-dir"
    }
    assert project["tool"]["flwr"]["app"]["components"]["clientapp"] == CLIENT_APP
    assert from_run_config(listed) == load(DEFAULT_CONFIG)


def test_a_run_config_is_toml() -> None:
    text = run_config({"rounds": 3, "head-bias": True, "learning-rate": 0.5, "data-dir": "/a b"})
    assert tomllib.loads(text.replace(" l", "\nl").replace(" h", "\nh").replace(" d", "\nd")) == {
        "rounds": 3, "head-bias": True, "learning-rate": 0.5, "data-dir": "/a b",
    }  # fmt: skip
    with pytest.raises(UserError, match="quotes"):
        run_config({"data-dir": "/it's"})


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["fednc", *words])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "configs/none.yaml"], "no configuration file"),
        (["run", "configs/digits_lt.yaml", "rounds=0"], "rounds = 0"),
        (["run", "configs/digits_lt.yaml", "--engine", "spark"], "allowed: flower, local"),
        (["report", "."], "not a run's folder"),
        (["compare", "configs/digits_lt.yaml", "--seeds", "0,x"], "seeds"),
        (["compare", "configs/digits_lt.yaml", "--methods", "fedlog"], "fedloge"),
        (["compare", "configs/digits_lt.yaml", "--study", "table3,fg4"], "did you mean 'fig4'"),
        (["compare", "configs/digits_lt.yaml", "--methods", "fedavg,"], "unknown method ''"),
        (["compare", "configs/digits_lt.yaml", "seed=7"], "takes --seeds instead"),
        (["compare", "configs/digits_lt.yaml", "run-name=a"], "run-name = 'a': a comparison names its runs itself"),
        (["compare", "configs/digits_lt.yaml", "resume=true"], "resume = True: a comparison names its runs itself"),
        (["compare", "configs/digits_lt.yaml", "--minutes", "nan"], "minutes = nan: should be 0 or more"),
        (["compare", "configs/digits_lt.yaml", "--minutes", "-1"], "minutes = -1.0: should be 0 or more"),
        (["compare", "configs/ham10000_sites.yaml", "--study", "table11"], "sites=100"),
        (["compare", "configs/digits_lt.yaml", "--engine", "spark"], "allowed: flower, local"),
    ],
)
def test_a_users_mistake_is_one_line_and_a_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run_main(monkeypatch, *words) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error


def test_run_and_report_from_the_command_line(
    tiny: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(yaml.safe_dump({k: v for k, v in tiny().dump().items() if v is not None and k != "name"}))
    assert run_main(monkeypatch, "run", str(config), "rounds=1", "--engine", "local") == 0
    folder = tmp_path / "runs" / "run"
    resolved = json.loads((folder / "config.json").read_text())
    assert resolved["rounds"] == 1 and resolved["name"] == "mine"
    (folder / "report.html").unlink()
    assert run_main(monkeypatch, "report", str(folder)) == 0
    assert (folder / "report.html").is_file()


def test_a_run_of_the_default_experiment_needs_no_file() -> None:
    answer = CliRunner().invoke(cli.cli, ["run", "rounds=0", "train.momentum=2"])
    assert isinstance(answer.exception, UserError)
    assert "rounds = 0: should be" in str(answer.exception) and "momentum = 2" in str(answer.exception)
