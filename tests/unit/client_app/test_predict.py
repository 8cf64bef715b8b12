"""Answers for folders, manifests and single files, of generic and personal models, with unreadable images named."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from client_app import cli
from client_app.predict import find_images, predict
from common.config import Experiment
from common.data import build_federation
from common.data.images import read_image
from common.errors import UserError
from common.trained import PERSONAL, load_trained
from server_app.engines import run_local

Tiny = Callable[..., Experiment]


@pytest.fixture
def several(tiny_for: Tiny) -> tuple[Path, Path]:
    """Return the folder of a run with several labels an image, and one with eight of its test images."""
    return run_and_images(tiny_for("fedloge_ml", rounds=1))


def run_and_images(experiment: Experiment) -> tuple[Path, Path]:
    folder = run_local(experiment)
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


def test_a_folder_is_answered_as_the_model_answers_its_pixels(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tiny(rounds=1)
    folder, images = run_and_images(experiment)
    output = folder.parent / "out.csv"
    words = (images, "--model", folder, "--output", output, "--batch", "3", "--device", "cpu")
    assert run_main(monkeypatch, *words) == 0
    rows = rows_of(output)
    assert [row["image"] for row in rows] == [*(f"{i}.png" for i in range(6)), "sub/6.png", "sub/7.png"]
    test = build_federation(experiment).dataset.test
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
    assert run_main(monkeypatch, *words, "--output", output, "--threshold", "0") == 0
    assert rows_of(output)[0]["predicted"] == "0|1|2|3|4|5|6|7|8|9"


def test_unreadable_images_are_named_and_the_others_answered(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, images = run_and_images(tiny(rounds=1))
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


def test_folders_lists_and_files_can_be_mixed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "list.csv").write_text("image\nx/y.png\n", encoding="utf-8")
    (tmp_path / "german.csv").write_text("Nr;Filename\n1;x/y.png\n", encoding="utf-8")
    assert [image.name for image in find_images([tmp_path / "german.csv"])] == ["x/y.png"]
    assert "fields are separated by semicolons" in caplog.text and "'Filename' is taken as 'image'" in caplog.text
    found = find_images([tmp_path, tmp_path / "list.csv", tmp_path / "a.jpg"])
    assert [image.name for image in found] == ["a.jpg", "b.PNG", "x/y.png", str(tmp_path / "a.jpg")]
    assert found[2].path == tmp_path / "x" / "y.png"


def test_a_batch_of_any_size_gives_the_same_answers(several: tuple[Path, Path]) -> None:
    folder, images = several
    model, listed = load_trained(folder), find_images([images])
    one, all_ = (list(predict(model, listed, batch, model.thresholds)) for batch in (1, 100))
    for a, b in zip(one, all_, strict=True):
        assert a.probabilities is not None and b.probabilities is not None
        np.testing.assert_allclose(a.probabilities, b.probabilities, atol=1e-6)


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
    ],
)
def test_a_users_mistake_is_one_line_and_a_failure(
    tiny: Tiny,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, images = run_and_images(tiny(rounds=1))
    (images / "empty").mkdir()
    assert run_main(monkeypatch, *(word.format(images=images) for word in words), "--model", folder) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error and message in error
    assert not list(tmp_path.rglob("*.part"))
    assert Image.open(images / "0.png").size == (8, 8)
