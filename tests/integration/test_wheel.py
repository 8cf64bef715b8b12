"""The wheel alone: its commands in processes of their own, from a folder that is no checkout."""

import os
import re
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from common.config import APP_ROOT

pytestmark = pytest.mark.skipif(not find_spec("hatchling"), reason="needs hatchling, of the extra 'dev'")
MAINS = {"fednc": "fednc", "fednc-site": "fednc_site"}
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
    program = f"import sys, fednc_start; sys.argv[0] = {name!r}; fednc_start.{MAINS[name]}()"
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


def test_wheel_checkout_and_app_are_the_same_code(wheel: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from common.installed import code_fingerprint; "
        "from server_app.engines.flower_app import write_app; write_app(Path(sys.argv[1])); print(code_fingerprint())"
    )
    fingerprints = set()
    for name, root in (("wheel", wheel), ("checkout", APP_ROOT), ("again", tmp_path / "wheel")):
        done = answer(root, program, str(tmp_path / name), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        fingerprints.add(done.stdout)
    assert len(fingerprints) == 1, "the code says of itself that it is another"
    found = [
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if name != "wheel" or path.parent.name != "__pycache__"  # Python has run from it
        }
        for name in ("wheel", "checkout", "again")
    ]
    assert (
        found[0] == found[1] == found[2] and {Path("pyproject.toml"), Path("configs/digits_lt.yaml")} <= found[0].keys()
    )


@pytest.mark.parametrize("text", [None, "", "raise RuntimeError('it is not to be run')"])
@pytest.mark.parametrize(("name", "app"), [("fednc", "server_app"), ("fednc-site", "client_app")])
def test_another_app_of_the_name_is_named(name: str, app: str, text: str | None, wheel: Path, tmp_path: Path) -> None:
    """A module or a package of another Flower project, where the user stands."""
    other = tmp_path / (f"{app}.py" if text is None else f"{app}/__init__.py")
    other.parent.mkdir(exist_ok=True)
    other.write_text(text or "")
    done = answer(wheel, f"import fednc_start; fednc_start.{MAINS[name]}()", "--help", folder=tmp_path)
    place = tmp_path / app if text is not None else other
    assert done.returncode == 1 and not done.stdout
    assert done.stderr.startswith(f"error: {place} hides FedNC's package {app} in {wheel}: Python finds it first")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("target", ["wheel", "wheel:editable"])
def test_both_commands_start_from_either_installation(target: str, wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", str(tmp_path)]
    subprocess.run(command, cwd=APP_ROOT, check=True, capture_output=True)
    (file,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(file)
    (entries,) = (n for n in names.namelist() if n.endswith("entry_points.txt"))
    starts = dict(re.findall(r"^(fednc\S*) = (\S+)$", names.read(entries).decode(), re.MULTILINE))
    assert starts == {name: f"fednc_start:{function}" for name, function in MAINS.items()}
    lines = [names.read(n).decode().split() for n in names.namelist() if n.endswith(".pth")]
    for place in lines[0] if lines else [str(wheel)]:  # `site-packages`, or what an editable installation adds to it
        if (Path(place) / "fednc_start.py").is_file():
            return
    pytest.fail("no folder with fednc_start.py is on Python's path")
