"""What may be handed on names no folder of the machine that made it; what is made is its owner's alone."""

import base64
import html
import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from sklearn.datasets import load_digits
from written_sites import write_site

from common.config import PATH_KEYS, Experiment, build
from common.wire import experiment_json
from server_app.app import run
from server_app.compare.results import write_results
from server_app.compare.runner import Cell, compare
from server_app.engines.engines import load_client_app, run_local
from server_app.generic import export
from server_app.grids.local_grid import LocalGrid
from server_app.report import write_report
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
NAMES = {"output-dir": "Läufe von Dr Meier", "data-dir": "Hautklinik Süd", "image-cache": "Zwischenlager"}
OWN_RECORD = {"config.json", "metrics.jsonl", "metrics.undone.jsonl", "run.json", "log.txt"}  # of the machine itself


@pytest.fixture(autouse=True)
def _nothing_is_masked() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def telling(tiny: Tiny, tmp_path: Path) -> Experiment:
    """Return an experiment whose folders have names that nobody else should read."""
    images, labels = load_digits(return_X_y=True)
    pixels = (images.reshape(-1, 8, 8) * 15).astype(np.uint8)
    folder = tmp_path / NAMES["data-dir"]
    folder.mkdir()
    parts = {"train": slice(0, 300), "test": slice(300, 420)}
    arrays = {f"x_{part}": pixels[rows] for part, rows in parts.items()}
    np.savez(folder / "Patienten.npz", **arrays, **{f"y_{part}": labels[rows] for part, rows in parts.items()})
    places = {"data_dir": folder / "Patienten.npz", "image_cache": tmp_path / NAMES["image-cache"]}
    return tiny(dataset="npz", rounds=1, output_dir=tmp_path / NAMES["output-dir"], run_name=None, **places)


def spellings(name: str) -> set[bytes]:
    """Return the ways in which bytes may hold a name: as it is, escaped, or in base64 at any offset."""
    found = {name, json.dumps(name)[1:-1], html.escape(name), quote(name), name.replace(" ", "\\ ")}
    plain = {word.encode() for word in found}
    coded = {base64.b64encode(b"x" * offset + name.encode())[4:-4] for offset in range(3)}
    return plain | {code for code in coded if len(code) > 7}


def telling_files(folder: Path, names: list[str]) -> list[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in OWN_RECORD]
    assert len(files) > 2
    return [
        f"{path.relative_to(folder)}: {name}"
        for path in files
        for name in names
        if any(word in path.read_bytes() for word in spellings(name))
    ]


def open_to_others(folder: Path) -> list[str]:
    """Return what below a folder, itself too, somebody else could read or enter."""
    paths = [folder, *folder.rglob("*")]
    return [str(path) for path in paths if stat.S_IMODE(path.stat().st_mode) & 0o077]


def test_nothing_that_is_handed_on_names_a_folder_of_the_machine(
    telling: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)  # the ONNX file has a test of its own
    folder = run_local(telling)
    export.export(folder)
    names = [*NAMES.values(), "Patienten", str(tmp_path), str(Path.home())]
    assert telling_files(folder, names) == []
    assert NAMES["data-dir"] in json.loads((folder / "config.json").read_text())["data-dir"]  # the machine's record
    assert (folder / "export" / "MODEL_CARD.md").is_file()
    renamed = folder.rename(folder.with_name("Sicherung Station 7"))
    write_report(renamed)
    assert telling_files(renamed, [*names, "Sicherung"]) == []
    assert open_to_others(tmp_path / NAMES["output-dir"]) == []


def test_a_report_leaves_out_the_files_that_a_failure_names(telling: Experiment, tmp_path: Path) -> None:
    folder = run_local(telling)
    reasons = {
        "w": f"UserError: {tmp_path / NAMES['data-dir']}/Müller Hans.dcm: cannot be read",
        "e": "cannot open '/mnt/pacs/Müller.dcm'",
        "n": "image=C:\\pacs\\Müller.dcm: no such file",
        "s": "a step of 3e5, 100/2 times the norm",
    }
    with (folder / "metrics.jsonl").open("a") as file:
        for site, reason in reasons.items():
            file.write(json.dumps({"event": "rejected", "round": 1, "site": site, "reason": reason}) + "\n")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "Müller" not in page and "pacs" not in page and page.count("it names a file of the machine") == 3
    assert "a step of 3e5, 100/2 times the norm" in page


def test_a_comparison_names_no_folder_and_is_its_owners_alone(telling: Experiment, tmp_path: Path) -> None:
    cells = [Cell(telling.replace(method="fedavg"))]
    folder = tmp_path / "Vergleich Meier" / "first"
    assert compare(cells, folder, jobs=1) == 0
    write_results(cells, folder)
    assert {"results.html", "results.md", "results.csv", "headline.md", "experiment.yaml", "runs.jsonl"} <= {
        path.name for path in folder.iterdir()
    }
    assert telling_files(folder, [*NAMES.values(), "Patienten", str(tmp_path), "Vergleich Meier"]) == []
    assert open_to_others(folder.parent) == []
    assert "data:image" not in (folder / "results.html").read_text(encoding="utf-8")


def test_a_site_learns_no_folder_and_keeps_what_it_makes_to_itself(tmp_path: Path) -> None:
    places = {key: tmp_path / name for key, name in NAMES.items()}
    values = {
        "partition": "deployed", "classes": ["cat", "dog"], "image-size": 8, "method": "fedper", "device": "cpu",
        "width": 4, "batch-size": 4, "sites": 2, "rounds": 1, "local-epochs": 1, "run-name": "run",
    }  # fmt: skip
    experiment = build({**values, **places, "data-dir": None})
    crossing = experiment_json(experiment.replace(data_dir=places["data-dir"]))
    assert not [name for name in NAMES.values() if any(word in crossing.encode() for word in spellings(name))]
    assert [key for key in PATH_KEYS if json.loads(crossing).get(key)] == ["output-dir"]  # '/nowhere'
    states = [tmp_path / "disk" / f"{name}-state" for name in ("west", "east")]
    nodes = [write_site(tmp_path, s.name.split("-")[0], **{"state-dir": str(s)}) for s in states]
    run(LocalGrid(load_client_app(), 2, nodes), experiment)
    assert all(list(state.rglob("personal_model.safetensors")) and list(state.rglob("*.npy")) for state in states)
    assert open_to_others(tmp_path / "disk") == [] == open_to_others(places["output-dir"])
    assert [e["event"] for e in read_events(places["output-dir"] / "run")][-1] == "summary"
    for state in states:
        assert telling_files(state, [str(tmp_path), *NAMES.values()]) == []


def test_a_folder_that_was_there_keeps_its_mode(telling: Experiment) -> None:
    telling.run.output_dir.mkdir(mode=0o755)
    folder = run_local(telling)
    assert stat.S_IMODE(telling.run.output_dir.stat().st_mode) == 0o755
    assert open_to_others(folder) == []
