"""The wheel alone: its commands in processes of their own, from a folder that is no checkout."""

import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.config import APP_ROOT

pytestmark = pytest.mark.skipif(not find_spec("hatchling"), reason="needs hatchling, of the extra 'dev'")
MAINS = {"fednc": "server_app.cli", "fednc-site": "client_app.cli"}
QUICK = ("rounds=1", "sites=2", "head-class-size=30", "local-epochs=1", "width=4")
SECONDS = 120  # after which a command is taken to hang


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an unpacked wheel: what lies in `site-packages` after `pip install`."""
    built, unpacked = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("unpacked")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(built)]
    subprocess.run(command, cwd=APP_ROOT, check=True, capture_output=True)
    (file,) = built.glob("*.whl")
    zipfile.ZipFile(file).extractall(unpacked)
    return unpacked


def answer(wheel: Path, program: str, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with the wheel's packages before all others."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FEDNC_", "PYTEST_"))}
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=folder,
        env=kept | {"PYTHONPATH": str(wheel), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def command(wheel: Path, name: str, *words: str, folder: Path) -> str:
    """Run one of the two commands to its good end and return its output."""
    program = f"import sys; from {MAINS[name]} import main; sys.argv[0] = {name!r}; main()"
    done = answer(wheel, program, *words, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("engine", ["local", "flower"])
def test_a_run_of_a_shipped_experiment(engine: str, wheel: Path, tmp_path: Path) -> None:
    words = ("configs/digits_lt.yaml", *QUICK, "run-name=run", "--engine", engine)
    assert f"report: {tmp_path}/fednc-runs/run/report.html" in command(wheel, "fednc", "run", *words, folder=tmp_path)


def test_the_templates_of_a_federation(wheel: Path, tmp_path: Path) -> None:
    command(wheel, "fednc", "provision", "init", "fed", "--host", "localhost", folder=tmp_path)
    command(wheel, "fednc", "provision", "site", "fed", "hospital-1", folder=tmp_path)
    for part in ("coordinator/compose.yml", "sites/hospital-1/compose.yml", "sites/hospital-1/INSTRUCTIONS.md"):
        assert (tmp_path / "fed" / part).is_file()


def test_flower_gets_the_files_that_a_checkout_gives_it(wheel: Path, tmp_path: Path) -> None:
    program = "import sys; from pathlib import Path; from server_app.engines.flower_app import write_app as w; "
    for name, root in (("wheel", wheel), ("checkout", APP_ROOT)):
        done = answer(root, program + "w(Path(sys.argv[1]))", str(tmp_path / name), folder=tmp_path)
        assert done.returncode == 0, done.stderr
    found = [
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("wheel", "checkout")
    ]
    assert found[0] == found[1] and {Path("pyproject.toml"), Path("configs/digits_lt.yaml")} <= found[0].keys()
