"""Every command, each time in a process of its own and from another folder: exit code and last line.

What runs in the process of the tests finds everything imported, cached and set already, which no user has.
"""

import json
import re
import signal
import site
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from cold import QUICK, SECONDS, Answer, main_of, start, variables
from PIL import Image
from sites import CLASSES, write_site
from test_start_up import commands
from waiting import wait_until

import common
from common.config import APP_ROOT, load
from server_app.compare.store import Store

ELSEWHERE = {  # commands that other files run in processes of their own
    "fednc new": "test_readme.py: on a folder; other data: tests/unit/server_app/new/test_new.py",
    "fednc run": "test_readme.py: both engines",
    "fednc tune": "test_tuning_runs.py",
    "fednc-site predict": "test_readme.py: both models; an image that cannot be read: below",
}
ONNX = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs the packages of the extra 'onnx': pip install 'fednc[onnx]'",
)

MOBILENET = APP_ROOT.parent / "shared" / "weights" / "mobilenet_v2.safetensors"


def check(answer: Answer, last: str, code: int = 0) -> None:
    """The exit code and the last line, without a traceback."""
    said = answer.out + answer.error
    assert answer.code == code, said
    assert re.search(last, answer.last), said
    assert "Traceback" not in said


def folders_of_this_machine(run: Path) -> list[bytes]:
    """Return the folders that no exported file may name."""
    found = [APP_ROOT, Path.home(), Path(common.__file__).parent, run, run.parent, Path(sysconfig.get_path("purelib"))]
    found += [Path(folder) for folder in site.getsitepackages()]
    return [b"site-packages", *(str(folder).encode() for folder in found if len(folder.parts) > 1)]


@ONNX
def test_export_in_a_new_process_gives_three_files_that_name_no_folder(home: Path) -> None:
    """It raised for every user: a cache, filled while the graph was traced, gave the traced tensors to the check."""
    run = home / "fednc-runs" / "pilot"
    answer = start("fednc", "export", str(run), folder=home)
    check(answer, r"MODEL_CARD\.md$")
    assert "model.onnx: its answers differ from PyTorch's by" in answer.out and not answer.error
    files = {path.name: path.read_bytes() for path in (run / "export").iterdir()}
    assert sorted(files) == ["MODEL_CARD.md", "model.onnx", "model.safetensors"]
    for name, content in files.items():
        assert [folder for folder in folders_of_this_machine(run) if folder in content] == [], name
    assert b".py" not in files["model.onnx"] and b"pkg.torch" not in files["model.onnx"]


def test_export_without_a_finished_run_says_so(tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text("{}")
    check(start("fednc", "export", "begun", folder=tmp_path), r"^error: begun: .* continue it with resume=true$", 1)


def test_report_is_written_again(home: Path) -> None:
    page = home / "fednc-runs" / "pilot" / "report.html"
    page.unlink()
    answer = start("fednc", "report", "fednc-runs/pilot", folder=home)
    check(answer, r"^fednc-runs/pilot/charts$")
    assert answer.out.splitlines()[-2] == "fednc-runs/pilot/report.html"
    assert "</html>" in page.read_text(encoding="utf-8")
    assert (page.parent / "charts" / "accuracy-by-round.pdf").is_file()


def test_a_site_and_a_patient_withdraw(tmp_path: Path) -> None:
    words = ("rounds=1", "sites=2", "run-name=run", "output-dir=runs", "method=fedridge")
    check(start("fednc", "run", "configs/digits_lt.yaml", *words, "--engine", "local", folder=tmp_path), "report.html$")
    check(start("fednc", "withdraw", "runs/run", "site-00", folder=tmp_path), "rounds=2. What it declared")
    check(start("fednc", "withdraw", "runs/run", "site-00", folder=tmp_path), "^error: .*was withdrawn before$", 1)
    write_site(tmp_path)
    image = next((tmp_path / "images" / "train").rglob("*.png")).relative_to(tmp_path / "images").as_posix()
    check(start("fednc-site", "withdraw", "site.yaml", image, folder=tmp_path), "Personal models made before")
    check(start("fednc-site", "withdraw", "site.yaml", "nobody", folder=tmp_path), "^error: .*is called 'nobody'", 1)


def test_predict_ends_with_1_where_an_image_cannot_be_read(home: Path) -> None:
    (home / "scans").mkdir()
    (home / "scans" / "broken.png").write_bytes(b"no image")
    words = ("scans", "--model", "fednc-runs/pilot")
    check(start("fednc-site", "predict", *words, folder=home), "1 of 1 images could not be read", 1)


def test_check_of_a_site_with_an_image_that_cannot_be_read(tmp_path: Path) -> None:
    write_site(tmp_path)
    (tmp_path / "images" / "train" / CLASSES[0] / "broken.png").write_bytes(b"no image")
    words = ("site.yaml", "--experiment", "pilot.yaml", "--json", "found.json")
    answer = start("fednc-site", "check", *words, folder=tmp_path)
    assert answer.out.strip().splitlines()[-1].startswith("not ready: 1 problem") and "broken.png" in answer.out
    assert answer.code == 1 and not answer.error.strip()
    assert len(json.loads((tmp_path / "found.json").read_text())["problems"]) == 1


def test_check_of_a_site_that_is_ready(tmp_path: Path) -> None:
    write_site(tmp_path)
    answer = start("fednc-site", "check", "site.yaml", folder=tmp_path)
    assert "ready: no problems" in answer.out
    check(answer, "shows when it joins")


@pytest.mark.skipif(not MOBILENET.exists(), reason="ImageNet weights of MobileNetV2 are not in ../shared/weights")
def test_new_starts_from_weights_and_what_it_writes_runs(tmp_path: Path) -> None:
    for i in range(20):
        path = tmp_path / "scans" / CLASSES[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((64, 70), 12 * i, np.uint8)).save(path)
    home = {"HOME": str(tmp_path)}
    answer = start("fednc", "new", "scans", "--weights", str(MOBILENET), folder=tmp_path, environment=home)
    check(answer, r"^fednc run scans\.yaml$")
    assert f"weights = {MOBILENET.resolve()}: given by --weights" in answer.out and not answer.error.strip()
    assert load("scans.yaml", {}, tmp_path).model.train_from == "features.18"
    words = ("rounds=1", "local-epochs=1", "--engine", "local")
    answer = start("fednc", "run", "scans.yaml", *words, folder=tmp_path, environment=home)
    check(answer, r"^report: .*/report\.html$")
    assert "stages before features.18 stand still" in answer.out + answer.error


def test_compare_that_ctrl_c_stopped_and_again_with_what_is_there(tmp_path: Path) -> None:
    """Finished runs are kept, the others are stopped; the second command finds its one run."""
    output = tmp_path / "out"
    words = ("configs/digits_lt.yaml", "--methods", "fedavg", "--output", str(output), *QUICK)
    process = subprocess.Popen(
        [sys.executable, "-c", main_of("fednc"), "compare", *words, "--seeds", ",".join(map(str, range(40)))],
        cwd=tmp_path, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in some shells
    )  # fmt: skip
    wait_until(lambda: Store(output).runs or process.poll() is not None, SECONDS, "a finished run")
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == f"stopped (Ctrl-C)\n{output} keeps the finished runs, and the same command goes on\n"
    assert "fedavg-seed0: done" in printed and Store(output).runs[0].stem == "fedavg-seed0"
    for left in Path("/proc").glob("[0-9]*/cmdline"):  # where there is a /proc, no child is left
        assert str(output).encode() not in content_of(left)

    kept = (output / "runs.jsonl").read_bytes()
    check(start("fednc", "compare", *words, "--seeds", "0", folder=tmp_path), rf"^results: {output}$")
    assert (output / "runs.jsonl").read_bytes() == kept


def content_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # a process that has ended meanwhile
        return b""


def test_follow_without_a_coordinator_says_what_is_missing(tmp_path: Path) -> None:
    answer = start("fednc", "follow", "7", folder=tmp_path, environment={"HOME": str(tmp_path)})
    check(answer, r"^error: .*'fednc' not found", 1)
    assert not set(answer.last) & set("╭│╰─"), "Flower's frame around an error is none of ours"


def test_run_at_real_sites_without_a_coordinator_says_what_is_missing(tmp_path: Path) -> None:
    write_site(tmp_path)
    words = ("run", "pilot.yaml", "--superlink", "fednc")
    answer = start("fednc", *words, folder=tmp_path, environment={"HOME": str(tmp_path)})
    check(answer, r"^error: Flower refused the run: .*'fednc' not found", 1)
    assert not set(answer.last) & set("╭│╰─")


def test_provision_from_the_first_command_to_the_last(tmp_path: Path) -> None:
    """`register` needs a SuperLink only where there is something to register; a real one: test_provisioning.py."""

    def provision(last: str, *words: str, code: int = 0) -> None:
        answer = start("fednc", "provision", *words, folder=tmp_path, environment={"HOME": str(tmp_path)})
        check(answer, last, code)

    provision("^made fed; the coordinator starts in fed/coordinator$", "init", "fed", "--host", "localhost")
    provision("delete its secrets/ here$", "site", "fed", "hospital-1")
    provision(r"^error: .*`fednc provision register fed` does the rest", "register", "fed", code=1)
    provision("^new key of hospital-1; fingerprint SHA256:", "renew", "fed", "hospital-1")
    provision("^new server certificate; restart the coordinator", "renew", "fed", "--days", "500")
    provision("^revoked hospital-1 SHA256:", "revoke", "fed", "hospital-1")
    provision("^nothing to register or to remove$", "register", "fed")
    provision("^└", "list", "fed")
    provision("^}$", "list", "fed", "--json")
    provision("^warning: ", "renew", "fed", "--days", "20", code=3)


def test_every_command_is_run_here() -> None:
    """A new command needs a test that starts it in a process of its own."""
    text = Path(__file__).read_text(encoding="utf-8")
    leaves = [command for command in commands() if command.count(" ") >= 1 and command != "fednc provision"]
    assert len(leaves) >= 12
    for command in leaves:
        name, *words = command.split()
        called = rf'"{name}", "{words[0]}"' if len(words) == 1 else rf'provision\([^)]*"{words[1]}"'
        assert command in ELSEWHERE or re.search(called, text), command
