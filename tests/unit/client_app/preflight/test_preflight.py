"""`fednc-site check`: every fault of a site's images is named, and the exit code tells."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from client_app import cli
from client_app.preflight.checks import Findings, check_site
from client_app.site.config import SiteConfig
from client_app.site.device import site_device
from common.config import Experiment, build
from common.data import load_dataset
from common.errors import UserError
from common.wire import experiment_json

Write = Callable[..., Path]
Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]
GOOD = [f"{i:02}.png,p{i // 2},{'train' if i < 8 else 'test'},{('cat', 'dog', 'fox')[i % 3]}" for i in range(12)]
HEADER = "image,patient,split,label"


def kinds(findings: Findings) -> list[tuple[str, int | None]]:
    return [(problem.kind, problem.row) for problem in findings.problems]


def test_a_site_without_faults(images: Write, site: Site, deployed: Deployed) -> None:
    images(HEADER, *GOOD)
    findings = check_site(site(device="cpu"), deployed())
    assert (findings.problems, findings.warnings) == ([], [])
    facts = findings.facts
    assert facts["classes"] == {
        "cat": {"train": 3, "test": 1},
        "dog": {"train": 3, "test": 1},
        "fox": {"train": 2, "test": 2},
    }
    assert facts["images"] == {
        "train": 8,
        "test": 4,
        "patients": 6,
        "colours": {"grey": 12},
        "sizes": [{"width": 12, "height": 10, "images": 12}],
        "several_labels": False,
    }
    assert facts["batch"]["images"] == 4 and facts["batch"]["seconds"] > 0
    assert facts["device"]["name"] == "cpu" and facts["device"]["memory_gib"] > 0
    assert "coordinator" not in facts
    assert list(site().cache.glob("*.npy"))  # the first round finds the images decoded


def test_every_fault_is_named_with_its_row(images: Write, site: Site, deployed: Deployed) -> None:
    broken = [
        "gone.jpg,p20,train,cat",
        "bad.png,p21,train,dog",
        "x.png,p22,train,wolf",
        "y.png,p0,test,cat",
        "z.png,p23,val,cat",
        "too,short",
        "00.png,p24,train,cat",
        "w.png,p25,test,cat",
        "v.png,,train,cat",
    ]
    zero = np.zeros((10, 12), np.uint8)  # as 00.png
    folder = images(HEADER, *GOOD, *broken, w=zero)
    images(HEADER, *GOOD[:1])
    (folder / "manifest.csv").write_text("\n".join([HEADER, *GOOD, *broken]))
    (folder / "bad.png").write_bytes(b"no image")
    findings = check_site(site(), deployed())
    assert sorted(kinds(findings), key=str) == sorted(
        [
            ("row", 14),
            ("image", 15),
            ("label", 16),
            ("patient", 17),
            ("row", 18),
            ("row", 19),
            ("row", 20),
            ("duplicate", 21),
            ("row", 22),
        ],
        key=str,
    )
    reasons = {problem.row: problem.reason for problem in findings.problems}
    assert "there is no file" in reasons[14] and "not a readable image" in reasons[15]
    assert "label 'wolf' is no class" in reasons[16] and "a leak; split by patient" in reasons[17]
    assert "expected train or test" in reasons[18] and "has 2 fields" in reasons[19]
    assert "is in line 2, too" in reasons[20] and "is in test and train: a leak" in reasons[21]
    assert "patient is empty" in reasons[22]
    assert findings.facts["images"]["train"] == 8 and "batch" in findings.facts


def test_warnings_alone_are_no_problem(images: Write, site: Site, deployed: Deployed) -> None:
    zero = np.zeros((4, 4), np.uint8)
    images("image,split,Hund,cat", "a.png,train,1,0", "b.png,train,1,0", a=zero, b=zero)
    findings = check_site(site(class_map={"Hund": "dog"}, device="cpu"), deployed(method="fednca_ml"))
    assert findings.problems == []
    assert [(warning.kind, warning.row) for warning in findings.warnings][:1] == [("duplicate", 3)]
    reasons = [warning.reason for warning in findings.warnings[1:]]
    assert reasons == [
        "no column of fox: not labelled at this site",
        "no training images of cat, fox",
        "no test images of cat, dog, fox",
        "no test images: this site's personal model cannot be judged here",
        "2 images are smaller than image-size 8: enlarged",
    ]


def test_equal_files_with_other_labels_are_a_problem(images: Write, site: Site) -> None:
    zero = np.zeros((4, 4), np.uint8)
    images("image,split,label", "a.png,train,cat", "b.png,train,dog", a=zero, b=zero)
    findings = check_site(site())
    assert kinds(findings) == [("duplicate", 3)] and "has other labels" in findings.problems[0].reason


def test_without_an_experiment_any_label_goes(images: Write, site: Site) -> None:
    images("image,age,wolf,bear", "a.png,50,1,0", "b.png,51,0,0")
    findings = check_site(site(test_share=0))
    assert findings.problems == []
    assert findings.facts["classes"] == {"wolf": {"train": 1, "test": 0}, "bear": {"train": 0, "test": 0}}
    assert "batch" not in findings.facts


@pytest.mark.parametrize(
    ("keys", "changes", "kind", "message"),
    [
        ({"policy": {"methods": ["fedloge"]}}, {}, "policy", "this site refuses method = 'fedavg'"),
        ({"policy": {"min-images": 50}}, {}, "data", "its policy's min-images is 50"),
        ({"class_map": {"a": "b"}}, {}, "data", "the experiment has no class 'b'"),
        ({}, {"image_size": None}, "experiment", "needs image-size"),
        ({}, {"partition": "iid"}, "experiment", "needs 'deployed'"),
        ({"device": "cuda"}, {}, "device", "device = 'cuda': PyTorch finds no GPU here"),
    ],
)
def test_what_stands_between_site_and_experiment(
    keys: dict[str, Any],
    changes: dict[str, Any],
    kind: str,
    message: str,
    images: Write,
    site: Site,
    deployed: Deployed,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    images(HEADER, *GOOD)
    findings = check_site(site(**keys), deployed(**changes))
    assert [problem.kind for problem in findings.problems] == [kind]
    assert message in findings.problems[0].reason


def run(*words: str | Path) -> Any:
    return CliRunner().invoke(cli.cli, ["check", *map(str, words)])


def test_the_exit_code_tells(images: Write, site_file: Write, deployed: Deployed, tmp_path: Path) -> None:
    images(HEADER, *GOOD)
    config, experiment, found = site_file(device="cpu"), tmp_path / "exp.yaml", tmp_path / "found.json"
    experiment.write_text(yaml.safe_dump(deployed().dump()))
    good = run(config, "--experiment", experiment, "--json", found)
    assert good.exit_code == 0, good.output
    assert (
        "ready: no problems, 0 warnings" in good.output
        and "key shows when it joins" in good.output
        and "8, 4" in good.output
    )
    assert json.loads(found.read_text())["ok"] is True
    images(HEADER, *GOOD, *(f"gone{i}.jpg,p1,train,cat" for i in range(25)))
    bad = run(config, "--experiment", experiment, "--json", found)
    assert bad.exit_code == 1 and "not ready: 25 problems to mend" in bad.output and "and 5 more" in bad.output
    assert bad.output.count("there is no file") == 20  # of 25 reasons
    written = json.loads(found.read_text())
    assert written["ok"] is False and [problem["row"] for problem in written["problems"]] == list(range(14, 39))


def test_a_reason_is_shown_once_with_its_lines(
    images: Write, site_file: Write, deployed: Deployed, tmp_path: Path
) -> None:
    images("image,label", *(f"{i}.png,{('cat', '[wolf]')[i % 2]}" for i in range(40)))
    (tmp_path / "exp.yaml").write_text(yaml.safe_dump(deployed().dump()))
    output = " ".join(run(site_file(), "--experiment", tmp_path / "exp.yaml").output.split())
    assert output.count("'[wolf]' is no class") == 1 and "lines 3, 5, 7, 9" in output and "and 12 more" in output


def test_an_unreachable_coordinator_is_a_problem(images: Write, site_file: Write, tmp_path: Path) -> None:
    images(HEADER, *GOOD)
    answer = run(site_file(), "--superlink", "127.0.0.1:1", "--root-certificates", tmp_path / "ca.crt")
    assert answer.exit_code == 1 and "cannot be read" in " ".join(answer.output.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["site.yaml", "--superlink", "a:1"], "--superlink and --root-certificates go together"),
        (["gone.yaml"], "gone.yaml: cannot be read"),
        (["site.yaml", "--experiment", "gone.yaml"], "no configuration file"),
        (["site.yaml", "--json", "/proc/no/such"], "/proc/no/such: cannot be written"),
        (["site.yaml", "--json", "site.yaml"], "is there already, and no earlier look's"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(
    words: list[str],
    message: str,
    images: Write,
    site_file: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images(HEADER, *GOOD)
    site_file()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fednc-site", "check", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 1 and error[-1].startswith("error: ") and message in error[-1]


def test_a_full_disk_is_found_before_anything_is_written(
    images: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int, start: int, size: int) -> None:
        asked.append(size)
        if len(asked) > 1:
            raise OSError(28, "No space left on device")

    asked: list[int] = []
    images(HEADER, *GOOD)
    config = site()
    monkeypatch.setattr("os.posix_fallocate", full)
    (problem,) = check_site(config, deployed()).problems
    assert problem.kind == "disk" and asked[1] - asked[0] == 12 * 8 * 8  # decoded, grey
    assert problem.reason.startswith(f"cache = '{config.cache}': 0.13 GiB cannot be written there (No space left on de")
    assert not list(config.cache.glob("*"))


def test_a_folder_that_cannot_be_made_is_named(images: Write, site: Site, deployed: Deployed) -> None:
    images(HEADER, *GOOD)
    (problem,) = check_site(site(state_dir="/proc/no/such")).problems
    assert problem.kind == "disk" and problem.reason.startswith("state-dir = '/proc/no/such': 0.12 GiB cannot be")


@pytest.mark.parametrize("device", ["auto", "cuda", "cpu"])
def test_no_graphics_card_is_a_warning_whatever_the_coordinators_own_device_is(
    device: str, images: Write, site: Site, deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site never gets to know that one: it trains on the device of its own file, or on what PyTorch finds."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    images(HEADER, *GOOD)
    findings = check_site(site(), deployed(device=device))
    (warning,) = findings.warnings
    assert warning.kind == "device" and "no GPU that PyTorch can use: this site trains on its CPU" in warning.reason
    assert findings.problems == [] and findings.facts["batch"]["seconds"] > 0
    sent = build(json.loads(experiment_json(deployed(device=device))))
    assert site_device(sent, site()).type == "cpu" == findings.facts["device"]["name"]


def test_the_way_alone_can_be_looked_at(tmp_path: Path) -> None:
    answer = run("--superlink", "127.0.0.1:1", "--root-certificates", tmp_path / "ca.crt")
    said = " ".join(answer.output.split())
    assert answer.exit_code == 1 and "cannot be read" in said and "Images" not in said and "1 problem to mend" in said
    assert "nothing to look at" in str(run().exception)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["image,label", "a.png,cat", "b.png,Cat"], [("row", 3, "label 'Cat' (1 line) looks like 'cat' of line 2")]),
        (["image,label", "a.png,1", "b.png,1.0"], [("row", 3, "label '1.0' (1 line) looks like '1'")]),
        (
            ["image,labels", "a.png,cat", '"b.png","Mass, Edema"'],
            [("row", 3, "has a comma: did you mean 'Mass|Edema'?")],
        ),
        (
            ["image,wolf,bear,age", "a.png,1,0,50", "b.png,x,1,60", "c.png,1,2,70"],
            [("row", 3, "'wolf' is 'x', expected 0 or 1"), ("row", 4, "'bear' is '2', expected 0 or 1")],
        ),
        (["image,label,patient", "a.png,x,3", "b.png,y,3.0"], [("row", 3, "patient '3.0' (1 line) looks like '3'")]),
    ],
)
def test_without_an_experiment_misread_words_are_refused_as_a_run_does(
    rows: list[str], expected: list[tuple[str, int, str]], images: Write, site: Site
) -> None:
    folder = images(*rows)
    Image.new("L", (9, 9)).save(folder / "b.png")
    found = check_site(site()).problems
    assert [(problem.kind, problem.row) for problem in found] == [(kind, row) for kind, row, _ in expected]
    assert all(reason in problem.reason for problem, (_, _, reason) in zip(found, expected, strict=True))
    with pytest.raises(UserError) as caught:  # a run, the same words
        load_dataset(Experiment(dataset="manifest", data_dir=folder))
    assert "age" in str(caught.value) or all(reason in str(caught.value) for _, _, reason in expected)


def test_a_word_that_the_class_map_explains_is_no_mistake(images: Write, site: Site) -> None:
    images("image,label", "a.png,Cat", "b.png,cat", "c.png,dog")
    assert check_site(site(class_map={"Cat": "felis", "cat": "felis"})).problems == []


def test_folders_that_look_alike_or_are_empty(site: Site, tmp_path: Path) -> None:
    for name in ("cat", "Cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("L", (9, 9), len(name) + ord(name[0])).save(tmp_path / "data" / name / "x.png")
    (tmp_path / "data" / "owl").mkdir()
    findings = check_site(site())
    (problem,) = findings.problems
    assert problem.kind == "label" and "class 'cat' looks like 'Cat'" in problem.reason
    assert "owl/: a class's folder without an image" in [warning.reason for warning in findings.warnings]


def test_columns_that_are_no_labels_are_named(images: Write, site: Site, deployed: Deployed) -> None:
    images("image,cat,dog,sex", "a.png,1,0,F")
    without = [warning.reason for warning in check_site(site()).warnings]
    assert "manifest.csv: not used, as no label, for most rows have neither 0 nor 1: sex" in without
    experiment = deployed(method="fedloge_ml", labels="many")
    reasons = [warning.reason for warning in check_site(site(), experiment).warnings]
    assert "manifest.csv: not used, as no class of the experiment: sex" in reasons
    assert "no column of fox: not labelled at this site" in reasons
