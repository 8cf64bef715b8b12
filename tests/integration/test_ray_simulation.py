"""`flwr run` (Ray) gives the same arrays as the in-process engine; typed by hand it works too."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import yaml
from flwr.app import Context, Message
from safetensors.numpy import load_file

from common.config import APP_ROOT, Experiment
from server_app.app import run
from server_app.cli import main
from server_app.compare.runner import Cell, compare
from server_app.compare.store import Store
from server_app.engines.engines import load_client_app, run_local
from server_app.engines.flower_run import QUIET, free_port
from server_app.grids.local_grid import LocalGrid

pytest.importorskip("ray", reason="Flower's simulation needs ray")

Tiny = Callable[..., Experiment]


def write_config(experiment: Experiment, path: Path) -> Path:
    path.write_text(yaml.safe_dump({k: v for k, v in experiment.dump().items() if v is not None}))
    return path


def test_ray_equals_the_in_process_engine(tiny: Tiny, tmp_path: Path) -> None:
    local = run_local(tiny(run_name="local", finetune_epochs=1))
    config = write_config(tiny(run_name="ray", finetune_epochs=1), tmp_path / "tiny.yaml")
    done = subprocess.run(
        [sys.executable, "-c", "from server_app.cli import main; main()", "run", str(config)],
        capture_output=True, text=True, timeout=600, cwd=APP_ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "round 2/2 | 3 of 3 sites" in done.stdout
    assert "report.html" in done.stdout
    names = assert_same_arrays(local, local.parent / "ray")
    assert len([name for name in names if "sites" in name.parts]) == 3 * 4  # frame, two rounds' heads, personal_model


def test_heads_start_as_in_process(tiny: Tiny, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"head_start": "ridge", "rounds": 1}
    local = run_local(tiny(run_name="local", **keys))
    config = write_config(tiny(run_name="ray", **keys), tmp_path / "tiny.yaml")
    done = subprocess.run(
        [sys.executable, "-c", "from server_app.cli import main; main()", "run", str(config)],
        capture_output=True, text=True, timeout=600, cwd=APP_ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heads start from the features of" in done.stdout
    assert Path("head_start.safetensors") in assert_same_arrays(local, local.parent / "ray")


def assert_same_arrays(local: Path, ray: Path) -> list[Path]:
    """Compare all arrays of two runs' folders bit for bit, and return their files."""
    names = sorted(p.relative_to(local) for p in local.rglob("*.safetensors"))
    assert names == sorted(p.relative_to(ray) for p in ray.rglob("*.safetensors"))
    for name in names:
        ours, theirs = load_file(local / name), load_file(ray / name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=f"{name}: {key}")
    return names


def test_a_worker_builds_model_and_federation_once(tiny: Tiny, tmp_path: Path) -> None:
    """Flower's own worker in Ray, which takes down what it makes, answers a whole run."""
    import ray
    from flwr.simulation.ray_transport.ray_actor import ClientAppActor

    made = tmp_path / "made.txt"

    def watch() -> None:
        import client_app.training.model_cache as models
        import common.data.federation.build as federation

        LocalGrid(load_client_app(), 0)  # Flower stamps messages with the process's identity

        def count(module: ModuleType, name: str) -> None:
            real = getattr(module, name)

            def noted(*args: Any, **more: Any) -> Any:
                with made.open("a", encoding="utf-8") as file:
                    file.write(f"{name}\n")
                return real(*args, **more)

            setattr(module, name, noted)

        count(models, "build_model")
        count(federation, "load_dataset")

    before = signal.getsignal(signal.SIGTERM)  # Ray puts its own there, and leaves it
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        worker = ClientAppActor.remote(watch)

        def ask(message: Message, context: Context) -> Message:
            _, reply, _ = ray.get(worker.run.remote(load_client_app, message, "0", context))
            assert isinstance(reply, Message)
            return reply

        answering: Any = ask
        run(LocalGrid(answering, 3), tiny(method="fedavg"))
    finally:
        ray.shutdown()
        signal.signal(signal.SIGTERM, before)
    assert sorted(made.read_text(encoding="utf-8").split()) == ["build_model", "load_dataset"]  # of nine messages


@pytest.fixture
def by_hand(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Yield the environment of a person who types `flwr run`, with ports and a home that are ours."""
    home = tmp_path / "flower"
    ports = [free_port(), free_port()]
    yield (
        os.environ
        | QUIET
        | {
            "FLWR_HOME": str(home),
            "FLWR_LOCAL_SUPERLINK_HTTP_API_PORT": str(ports[0]),
            "FLWR_LOCAL_CONTROL_API_PORT": str(ports[1]),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }
    )
    for process in Path("/proc").glob("[0-9]*"):  # the SuperLink that Flower leaves running
        with suppress(OSError):
            if f"FLWR_HOME={home}\0".encode() in (process / "environ").read_bytes():
                os.kill(int(process.name), signal.SIGTERM)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds Flower's daemon through /proc")
def test_flwr_run_by_hand_says_how_to_get_all_sites(tiny: Tiny, tmp_path: Path, by_hand: dict[str, str]) -> None:
    """Flower's local federation has two nodes by default, the experiment three sites."""
    config = write_config(tiny(run_name="by-hand"), tmp_path / "tiny.yaml")
    done = subprocess.run(
        ["flwr", "run", ".", "--stream", "--run-config", f"config='{config}' rounds=1 method='fedavg'"],
        capture_output=True, text=True, timeout=600, cwd=APP_ROOT, env=by_hand, check=False,
    )  # fmt: skip
    text = done.stdout + done.stderr
    assert "running with 2; for 3 add --federation-config 'num-supernodes=3'" in text
    assert "round 1/1 | 2 of 2 sites" in text
    assert "FedAvg" in text


def test_a_users_mistake_in_a_flower_run_is_one_line(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Found before anything starts: a line, no frames, and an exit code."""
    config = write_config(tiny(image_size=2), tmp_path / "tiny.yaml")
    monkeypatch.setattr(sys, "argv", ["fednc", "run", str(config)])
    with pytest.raises(SystemExit) as exit_info:
        main()
    said = capsys.readouterr()
    assert exit_info.value.code == 1
    assert said.err.startswith("error: ") and "cnn" in said.err and said.err.count("\n") == 1
    assert "Traceback" not in said.out + said.err


def test_a_comparison_has_the_same_results_from_flower(tiny: Tiny, tmp_path: Path) -> None:
    """Two simulations side by side; in one a user's mistake, found by the coordinator: its line, no frames."""
    good, bad = Cell(tiny(method="fedloge", rounds=1)), Cell(tiny(method="fedavg", rounds=1, image_size=2))
    results = {}
    for engine in ("flower", "local"):
        folder = tmp_path / engine
        cells = [good, bad] if engine == "flower" else [good]
        assert compare(cells, folder, jobs=2, engine=engine) == len(cells) - 1
        run = Store(folder).find(good)
        assert run is not None
        results[engine] = run.result
        results[engine]["summary"].pop("cost")  # seconds differ
    assert results["flower"] == results["local"]
    (said,) = [text for log in (tmp_path / "flower").rglob("log.txt") if "finished:failed" in (text := log.read_text())]
    assert "error: " in said and "cnn" in said and "Traceback" not in said
    assert "the run ended as 'finished:failed'" in said
