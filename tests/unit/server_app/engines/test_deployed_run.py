"""An experiment for real sites goes into the app as it is; what cannot run there is refused before anyone is asked."""

import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import APP_ROOT, load
from common.errors import UserError
from server_app.engines import deployed_run
from server_app.engines.deployed_run import run_deployed
from server_app.engines.flower_app import write_app
from server_app.engines.stopping import Stopped, last_lines

PILOT = {"partition": "deployed", "classes": ["cat", "it's a dog"], "data-dir": "/data", "output-dir": "/results"}


def test_the_app_carries_the_experiment_and_the_same_code(tmp_path: Path) -> None:
    app = write_app(tmp_path / "app")
    deployed_run._write_experiment({**PILOT, "name": "pilot"}, app / "configs" / "run.yaml")
    ours = {
        p.relative_to(APP_ROOT)
        for room in ("server_app", "client_app", "common")
        for p in (APP_ROOT / room).rglob("*.py")
        if p.parent.name != "start"  # of the commands, which an app has none of
    }
    for path in ours:
        assert (app / path).read_bytes() == (APP_ROOT / path).read_bytes()
    assert {p.relative_to(app) for p in app.rglob("*.py")} == ours
    experiment = load(app / "configs" / "run.yaml")
    assert experiment.data.classes == ("cat", "it's a dog") and experiment.name == "pilot"
    assert (experiment.data.data_dir, experiment.run.output_dir) == (Path("/data"), Path("/results"))
    assert (app / "pyproject.toml").read_text() == (APP_ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data-dir": "test-images"}, "data-dir = 'test-images': give the path that the coordinator's container has"),
        ({"output-dir": "out"}, "e.g. /results"),
        ({"partition": "iid"}, "partition = 'iid': sites on other machines need partition: deployed"),
        ({"rounds": 0}, "rounds = 0"),
        ({"clases": 1}, "did you mean 'classes'?"),
    ],
)
def test_what_cannot_run_at_real_sites_is_refused(
    changes: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed_run, "stream", lambda *_: pytest.fail("nobody is to be asked"))
    (tmp_path / "pilot.yaml").write_text(yaml.safe_dump(PILOT | changes))
    with pytest.raises(UserError) as caught:
        run_deployed("pilot.yaml", {"seed": 1}, "fednc", tmp_path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("run", "said"), [("", "may have taken the run already: `flwr ls prod`"), ("7", "run 7 goes on")]
)
def test_who_stops_looking_is_shown_how_to_look_again_and_how_to_end_it(
    run: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*words: Any) -> str:
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(deployed_run, "stream", stopped)
    with pytest.raises(Stopped) as stop:
        deployed_run._follow(["log"], "prod", "/", run)
    last = last_lines(stop.value).splitlines()[-1]
    assert said in last and (
        not run or ("`fednc follow 7 --superlink prod` shows" in last and "flwr stop 7 prod" in last)
    )


@pytest.mark.parametrize("typed", [{}, {"frame-norm": 4}, {"fedloge.frame-norm": 4}, {"fedloge": {"frame-norm": 4}}])
@pytest.mark.parametrize("tuned", [{}, {"fedloge": {"frame-norm": 1.5}}])
def test_the_sites_get_what_was_typed_in_whatever_form(
    typed: dict[str, Any], tuned: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def flower(words: list[str], *_: Any) -> None:
        app = Path(words[words.index("run") + 1])
        found.append(load(app / "configs" / "run.yaml"))

    monkeypatch.setattr(deployed_run, "_follow", flower)
    path = tmp_path / "pilot.yaml"
    path.write_text(yaml.safe_dump({**PILOT, "frame-norm": 2, "tuned": tuned}))
    run_deployed("pilot.yaml", typed, "fednc", tmp_path)
    assert found[0].dump() == load(path, typed, base=tmp_path).dump()
