"""`fednc new`: what it writes for folders, manifests and archives runs as it is."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import APP_ROOT, load
from common.data import build_federation
from common.errors import UserError
from server_app.engines.engines import run_local
from server_app.new import new_experiment
from server_app.new.recognise import recognise

MOBILENET_WEIGHTS = APP_ROOT.parent / "shared" / "weights" / "mobilenet_v2.safetensors"
CLASSES = ("benign", "malignant", "nevus")


def picture(path: Path, shade: int, size: tuple[int, int] = (40, 30), mode: str = "L") -> None:
    """Write a picture of one shade with some noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(abs(hash(path.name)) % 2**32).integers(0, 40, (size[1], size[0]), np.uint8)
    image = Image.fromarray(noise + np.uint8(shade))
    image.convert(mode).save(path)


def a_folder(
    root: Path, parts: tuple[str, ...] = ("train", "test"), images: int = 12, size: tuple[int, int] = (40, 30)
) -> Path:
    for part in parts:
        for c, name in enumerate(CLASSES):
            for i in range(images if part != "test" else 4):
                picture(root / part / name / f"{part}{c}{i}.png", 60 * c, size)
    return root


def a_manifest(root: Path, labels: str) -> Path:
    """Write 60 images of 20 patients at two sites, with `label`, `labels` or a column a class."""
    rows = []
    for i in range(60):
        name = CLASSES[i // 2 % 3]
        picture(root / "scans" / f"{i}.png", 60 * (i // 2 % 3), (30 + i % 3, 40))
        row = {"image": f"scans/{i}.png", "patient": f"p{i // 3}", "site": "north" if i < 33 else "south"}
        if labels == "columns":
            row |= {c: str(int(c == name or (c == "nevus" and i % 2 == 0))) for c in CLASSES}
        else:
            row[labels] = name if labels == "label" or i % 2 else f"{name}|{CLASSES[(i // 2 + 1) % 3]}"
        rows.append(row)
    path = root / "list.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return path


def an_archive(path: Path, several: bool) -> Path:
    generator = np.random.default_rng(0)
    arrays = {}
    for side, n in (("train", 60), ("test", 24)):
        classes = np.arange(n) % 3
        arrays[f"x_{side}"] = generator.integers(0, 255, (n, 28, 28), np.uint8)
        arrays[f"y_{side}"] = np.eye(3, dtype=np.int64)[classes] if several else classes
        arrays[f"center_{side}"] = np.arange(n) % 2
        arrays[f"lesion_{side}"] = np.arange(n) + (0 if side == "train" else 1000)
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("kind", ["folder", "classes-alone", "label", "labels", "columns", "npz", "npz-several"])
def test_what_it_writes_runs_as_it_is(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if kind == "folder":
        data = a_folder(tmp_path / "my images")
    elif kind == "classes-alone":
        data = a_folder(tmp_path / "scans", parts=("",))
    elif kind.startswith("npz"):
        data = an_archive(tmp_path / "x.npz", kind.endswith("several"))
    else:
        data = a_manifest(tmp_path / "data", kind)
    lines = new_experiment(data)
    written = next(tmp_path.glob("*.yaml"))
    assert lines[-1] == f"  fednc run {written.name}"
    several = kind in ("labels", "columns", "npz-several")
    experiment = load(written.name, {"rounds": 1, "local-epochs": 1, "output-dir": str(tmp_path / "runs")}, tmp_path)
    assert experiment.method == ("fedloge_ml" if several else "fedloge")
    assert (experiment.model.backbone, experiment.model.weights) == ("cnn", "none")  # tiny images
    assert build_federation(experiment).dataset.multilabel == several
    folder = run_local(experiment)
    assert (folder / "report.html").is_file()


def test_every_key_it_writes_has_a_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_experiment(an_archive(tmp_path / "x.npz", False), tmp_path / "mine.yaml")
    lines = [line for line in (tmp_path / "mine.yaml").read_text().splitlines() if line and not line.startswith("#")]
    assert len(lines) > 15
    assert [line for line in lines if " # " not in line] == []


def test_sites_and_patients_of_an_archive_are_found(tmp_path: Path) -> None:
    keys = recognise(an_archive(tmp_path / "x.npz", False))
    assert (keys["site-key"], keys["group-key"]) == ("center", "lesion")


def test_natural_sites_are_taken_where_the_data_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    new_experiment(a_manifest(tmp_path / "data", "label"), Path("m.yaml"))
    assert build_federation(load("m.yaml", {}, tmp_path)).site_names == ("north", "south")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("mine")
    with pytest.raises(UserError, match="nothing is overwritten"):
        new_experiment(an_archive(tmp_path / "x.npz", False), tmp_path / "x.yaml")
    assert (tmp_path / "x.yaml").read_text() == "mine"


def test_images_that_cannot_be_read_are_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = a_folder(tmp_path / "scans", parts=("",))
    (data / "nevus" / "broken.png").write_bytes(b"no image")
    lines = new_experiment(data, skip_bad_images=1)
    assert any("1 image is left out" in line and "nevus/broken.png" in line for line in lines)
    assert load("scans.yaml", {}, tmp_path).data.skip_bad_images == 1


def test_a_file_is_replaced_where_that_is_asked_for_and_the_new_one_runs(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("mine")
    with pytest.raises(UserError):
        new_experiment(tmp_path / "nowhere", path, overwrite=True)
    assert path.read_text() == "mine"
    new_experiment(an_archive(tmp_path / "x.npz", False), path, overwrite=True)
    assert load(str(path), {}, tmp_path).data.dataset == "npz"


def test_what_cannot_be_learned_from_leaves_no_file(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.pdf").write_bytes(b"%PDF-1.4")
    (tmp_path / "tables").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "tables" / name).write_text("image,label\n")
    for data, words in (
        (tmp_path / "nowhere", "no such file or folder"),
        (tmp_path / "empty", "no class folders, no manifest.csv"),
        (tmp_path / "notes.pdf", "none of the three"),
        (tmp_path / "tables", r"a\.csv, b\.csv: name one"),
    ):
        with pytest.raises(UserError, match=words):
            new_experiment(data, tmp_path / "out.yaml")
        assert not (tmp_path / "out.yaml").exists()


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_images_that_cannot_be_read_are_all_named_and_may_be_left_out(kind: str, tmp_path: Path) -> None:
    if kind == "folder":
        data = a_folder(tmp_path / "data")
        for name in ("x", "y"):
            (data / "train" / CLASSES[0] / f"{name}.png").write_bytes(b"")
    else:
        data = tmp_path / "x.npz"
        stored: dict[str, np.ndarray] = {}
        for side in ("train", "test"):
            files = []
            for row in range(24):
                stream = io.BytesIO()
                Image.new("L", (9, 9), 9 * row + len(side)).save(stream, "JPEG")
                files.append(b"none" if side == "train" and row in (0, 5) else stream.getvalue())
            stored |= {f"jpeg_{side}": np.frombuffer(b"".join(files), np.uint8), f"y_{side}": np.arange(24) % 2}
            stored[f"offset_{side}"] = np.cumsum([0, *map(len, files)])
        np.savez(data, **stored)
    with pytest.raises(UserError, match=r"^2 of .*; here: fednc new … --skip-bad-images 2$"):
        new_experiment(data, tmp_path / "out.yaml")
    lines = new_experiment(data, tmp_path / "out.yaml", skip_bad_images=2)
    assert any("2 images are left out" in line for line in lines)
    assert load(str(tmp_path / "out.yaml"), {}, tmp_path).data.skip_bad_images == 2


@pytest.mark.parametrize("several", [False, True])
def test_columns_with_one_label_in_every_row_are_noted(several: bool, tmp_path: Path) -> None:
    lines = new_experiment(an_archive(tmp_path / "x.npz", several), tmp_path / "out.yaml")
    assert any("every image has one label exactly" in line for line in lines) == several
    assert ("every image has one label exactly" in (tmp_path / "out.yaml").read_text()) == several


def test_an_archives_sites_or_patients_that_are_no_numbers_are_not_dropped(tmp_path: Path) -> None:
    stored = {
        key: values for key, values in np.load(an_archive(tmp_path / "x.npz", False)).items() if "lesion" not in key
    }
    for side in ("train", "test"):
        stored[f"patient_{side}"] = np.array([f"{side} {row}" for row in range(len(stored[f"y_{side}"]))])
    np.savez(tmp_path / "words.npz", **stored)
    with pytest.raises(UserError, match=r"patient_train is <U8 of shape .*, expected one integer an image"):
        new_experiment(tmp_path / "words.npz", tmp_path / "out.yaml")


@pytest.mark.skipif(not MOBILENET_WEIGHTS.exists(), reason="needs ../shared/weights")
@pytest.mark.parametrize("kind", ["folder", "manifest"])
def test_the_shipped_experiments_for_ones_own_images_run(kind: str, tmp_path: Path) -> None:
    data = a_folder(tmp_path / "d") if kind == "folder" else a_manifest(tmp_path / "d", "label")
    given = {"data-dir": str(data), "rounds": 1, "local-epochs": 1, "output-dir": str(tmp_path / "runs"), "sites": 2}
    given |= {"weights": str(MOBILENET_WEIGHTS), "image-size": 32, "image-cache": str(tmp_path / "cache")}
    assert (run_local(load(f"configs/own_{kind}.yaml", given, tmp_path)) / "report.html").is_file()
