"""Answers for folders, manifests and single files, of generic and personal models, with unreadable images named."""

import csv
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from trained_runs import TrainedRuns

from client_app import cli
from client_app.clinic.predict import find_images, predict, write_predictions
from common.config import Experiment
from common.data import build_federation
from common.data.images.encoded import FileImages
from common.data.images.levels import Depth
from common.data.images.source import Interpolation, read_image
from common.errors import UserError
from common.models.trained import PERSONAL, load_trained

Tiny = Callable[..., Experiment]


@pytest.fixture
def several(tiny_for: Tiny, trained: TrainedRuns) -> tuple[Path, Path]:
    """Return the folder of a run with several labels an image, and one with eight of its test images."""
    return with_images(trained.copy(method="fedloge_ml", rounds=1), tiny_for("fedloge_ml"))


@pytest.fixture
def single(tiny: Tiny, trained: TrainedRuns) -> tuple[Path, Path]:
    """Return the same of a run with one label an image."""
    return with_images(trained.copy(rounds=1), tiny())


def with_images(folder: Path, experiment: Experiment) -> tuple[Path, Path]:
    test = build_federation(experiment).dataset.test
    images = folder.parent / "images"
    (images / "sub").mkdir(parents=True)
    for i, pixels in enumerate(test.batch(np.arange(8)).numpy()):
        Image.fromarray(pixels[0]).save(images / ("sub" if i > 5 else "") / f"{i}.png")
    return folder, images


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["fednc-site", "predict", *map(str, words)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_answered_as_the_model_answers_its_pixels(
    tiny: Tiny, single: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, images = single
    output = folder.parent / "out.csv"
    words = (images, "--model", folder, "--output", output, "--batch", "3", "--device", "cpu")
    assert run_main(monkeypatch, *words) == 0
    rows = rows_of(output)
    assert [row["image"] for row in rows] == [*(f"{i}.png" for i in range(6)), "sub/6.png", "sub/7.png"]
    test = build_federation(tiny()).dataset.test
    with torch.no_grad():
        expected = load_trained(folder)(test.batch(np.arange(8))).numpy()
    found = np.array([[float(row[f"p:{c}"]) for c in range(10)] for row in rows])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    assert [row["predicted"] for row in rows] == [str(c) for c in expected.argmax(axis=1)]
    assert list(rows[0]) == ["image", "predicted", *(f"p:{c}" for c in range(10)), "error"]


def test_a_manifest_several_labels_and_the_personal_model(
    several: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, images = several
    (images / "list.csv").write_text("image,patient\nsub/7.png,a\n0.png,b\n", encoding="utf-8")
    personal, output = folder / "sites" / "site-01" / PERSONAL, folder.parent / "out.csv"
    words = (images / "list.csv", "--model", folder / "generic.safetensors", "--personal", personal)
    assert run_main(monkeypatch, *words, "--output", output) == 0
    rows = rows_of(output)
    assert [row["image"] for row in rows] == ["sub/7.png", "0.png"]
    thresholds = load_trained(folder, personal).thresholds
    for row in rows:
        assert [float(row[f"threshold:{c}"]) for c in range(10)] == pytest.approx(thresholds)
        labels = [str(c) for c in range(10) if float(row[f"p:{c}"]) >= float(row[f"threshold:{c}"])]
        assert row["predicted"] == "|".join(labels)
    assert run_main(monkeypatch, *words, "--output", output, "--threshold", "0", "--overwrite") == 0
    assert rows_of(output)[0]["predicted"] == "0|1|2|3|4|5|6|7|8|9"


def test_unreadable_images_are_named_and_the_others_answered(
    single: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = single
    (images / "2.png").write_bytes(b"no image")
    (images / "list.csv").write_text("image\n1.png\n2.png\nnone.png\n3.png\n", encoding="utf-8")
    output = folder.parent / "out.csv"
    words = ("--model", folder, "--output", output, "--batch", "2")
    assert run_main(monkeypatch, images / "list.csv", *words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: 2 of 4 images could not be read")
    rows = rows_of(output)
    assert [bool(row["error"]) for row in rows] == [False, True, True, False]
    assert "2.png: not a readable image" in rows[1]["error"] and rows[1]["p:0"] == rows[1]["predicted"] == ""
    (images / "list.csv").write_text("image\n2.png\n", encoding="utf-8")
    assert run_main(monkeypatch, images / "list.csv", *words) == 1  # none can be read


def test_images_are_made_grey_or_rgb_and_fitted(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (255, 0, 0)).save(tmp_path / "a.png")
    grey = read_image(tmp_path / "a.png", 1, (5, 5))
    assert grey.shape == (1, 5, 5) and grey.dtype == np.uint8 and (grey == 76).all()  # 0.299 · 255
    assert read_image(tmp_path / "a.png", 3, (10, 20)).shape == (3, 10, 20)
    with pytest.raises(UserError, match="is 10×20 pixels, the model takes 10×19"):
        read_image(tmp_path / "a.png", 3, (10, 19))


def test_folders_lists_and_files_can_be_mixed(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "list.csv").write_text("image\nx/y.png\n", encoding="utf-8")
    (tmp_path / "german.csv").write_text("Nr;Filename\n1;x/y.png\n", encoding="utf-8")
    notes: list[str] = []
    assert [image.name for image in find_images([tmp_path / "german.csv"], notes.append)] == ["x/y.png"]
    assert "fields are separated by semicolons" in notes[0] and "'Filename' is taken as 'image'" in notes[1]
    (tmp_path / "list.tsv").write_text("path\tnumber\nx/y.png\t1\n", encoding="utf-8")
    assert [image.name for image in find_images([tmp_path / "list.tsv"])] == ["x/y.png"]
    with pytest.raises(UserError, match="is an archive of arrays; give image files"):
        (tmp_path / "x.npz").write_bytes(b"PK")
        find_images([tmp_path / "x.npz"])
    (tmp_path / "x.npz").unlink()
    found = find_images([tmp_path, tmp_path / "list.csv", tmp_path / "a.jpg"])
    assert [image.name for image in found] == ["a.jpg", "b.PNG", "x/y.png", str(tmp_path / "a.jpg")]
    assert found[2].path == tmp_path / "x" / "y.png"


@pytest.mark.parametrize("end", ["csv", "tsv", "TXT"])
def test_a_list_may_end_as_a_manifest_may(end: str, tmp_path: Path) -> None:
    (tmp_path / f"list.{end}").write_text("Nr\tFilename\n1\tx/y.png\n", encoding="utf-8")
    assert [image.path for image in find_images([tmp_path / f"list.{end}"])] == [tmp_path / "x" / "y.png"]


def test_a_batch_of_any_size_gives_the_same_answers(several: tuple[Path, Path]) -> None:
    folder, images = several
    model, listed = load_trained(folder), find_images([images])
    one, all_ = (list(predict(model, listed, batch, model.thresholds)) for batch in (1, 100))
    for a, b in zip(one, all_, strict=True):
        assert a.probabilities is not None and b.probabilities is not None
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)


def test_answers_are_their_owners_alone_and_no_formula(several: tuple[Path, Path], tmp_path: Path) -> None:
    folder, images = several
    (images / "=cmd|'!A1.png").write_bytes((images / "0.png").read_bytes())
    model = load_trained(folder)
    model.about = model.about.model_copy(update={"classes": ("=1+1", *model.about.classes[1:])})
    output, before, everything = tmp_path / "out.csv", os.umask(0), np.zeros(10)
    try:
        answers = predict(model, find_images([images]), 100, everything)
        assert write_predictions(output, answers, model, everything) == 0
    finally:
        os.umask(before)
    assert output.stat().st_mode & 0o777 == 0o600
    rows = rows_of(output)
    assert rows[-3]["image"] == "'=cmd|'!A1.png" and rows[0]["predicted"].startswith("'=1+1|1|")
    assert "p:=1+1" in rows[0]
    assert not [cell for row in rows for cell in (*row, *row.values()) if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{images}/none"], "there is no such file or folder"),
        (["{images}/empty"], "no image in this folder"),
        (["{images}", "--head", "psi"], "unknown head 'psi'"),
        (["{images}", "--threshold", "0.5"], "--threshold: this model gives each image one label"),
        (["{images}", "--device", "tpu"], "allowed: auto, cpu, cuda, mps"),
        (["{images}/0.png", "--output", "{images}/0.png"], "is one of the files to read"),
        (["{images}", "--output", "{images}/none/x.csv"], "cannot be written"),
        (["{images}", "--output", "{images}/1.png"], "is there, and nothing is overwritten"),
    ],
)
def test_a_users_mistake_is_one_line_and_a_failure(
    single: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, images = single
    (images / "empty").mkdir()
    assert run_main(monkeypatch, *(word.format(images=images) for word in words), "--model", folder) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error
    assert not list(tmp_path.rglob("*.part"))
    assert Image.open(images / "0.png").size == (8, 8)


def test_several_folders_keep_their_images_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / folder / "x.png")
        (tmp_path / folder / "list.csv").write_text("image\nx.png\n", encoding="utf-8")
    found = find_images([tmp_path / "a", tmp_path / "b"])
    assert [image.name for image in found] == [(tmp_path / folder / "x.png").as_posix() for folder in "ab"]
    assert [image.name for image in find_images([tmp_path / "a"])] == ["x.png"]
    assert [image.name for image in find_images([tmp_path / "a" / "list.csv"])] == ["x.png"]
    lists = find_images([tmp_path / "a" / "list.csv", tmp_path / "b" / "list.csv"])
    assert [image.name for image in lists] == [str(tmp_path / folder / "x.png") for folder in "ab"]


def test_files_that_predict_skips_are_counted(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "IM1", "PNG")
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("no image")
    lines: list[str] = []
    assert [image.name for image in find_images([tmp_path], lines.append)] == ["IM1"]
    assert lines == [f"{tmp_path}: 2 files skipped: 1 hidden (.DS_Store), 1 no image (notes.txt)"]


@pytest.mark.parametrize("depth", ["percentile", "stored"])
def test_a_finished_model_reads_deep_images_as_training_did(trained: TrainedRuns, depth: Depth, tmp_path: Path) -> None:
    model = load_trained(trained(rounds=1, depth=depth))
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 100 + 20_000).save(tmp_path / "x.png")
    (answer,) = predict(model, find_images([tmp_path / "x.png"]), 1, model.thresholds)
    source = FileImages([tmp_path / "x.png"], np.zeros(1, np.int64), depth=depth)
    with torch.no_grad():
        expected = model(source.batch(np.arange(1))).numpy()[0]
    assert answer.probabilities is not None
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_finished_model_resizes_as_training_did(
    trained: TrainedRuns, interpolation: Interpolation, tmp_path: Path
) -> None:
    model = load_trained(trained(rounds=1, image_size=12, interpolation=interpolation))
    assert model.about.interpolation == interpolation
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    (answer,) = predict(model, find_images([tmp_path / "x.png"]), 1, model.thresholds)
    source = FileImages([tmp_path / "x.png"], np.zeros(1, np.int64), 12, interpolation=interpolation)
    with torch.no_grad():
        expected = model(source.batch(np.arange(1))).numpy()[0]
    assert answer.probabilities is not None and np.array_equal(answer.probabilities, expected)
