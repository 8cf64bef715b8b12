"""An exported model answers as the run's did, as safetensors and as ONNX, and its card says what it is."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open

from common.config import Experiment
from common.data import build_federation
from common.trained import load_trained
from server_app import cli, export
from server_app.engines import run_local
from server_app.journal import percent
from server_app.report.record import read_run

Tiny = Callable[..., Experiment]
ONNX = pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs the packages of the extra 'onnx': pip install 'fednc[onnx]'",
)


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)


def run_main(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr("sys.argv", ["fednc", "export", *map(str, words)])
    with pytest.raises(SystemExit) as exit_info:
        cli.main()
    return int(exit_info.value.code or 0)


@ONNX
@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("fedloge", {"backbone": "resnet8"}),
        ("fedetf", {}),
        ("fednca_ml", {"precision": "bf16", "channels_last": True}),
    ],
)
def test_onnx_answers_as_pytorch_does_for_any_batch(tiny_for: Tiny, method: str, changes: dict[str, Any]) -> None:
    import onnxruntime

    experiment = tiny_for(method, rounds=1, **changes)
    folder = run_local(experiment)
    lines = export.export(folder)
    assert "its answers differ from PyTorch's by" in lines[1]
    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    model, test = load_trained(folder / "export" / "model.safetensors"), build_federation(experiment).dataset.test
    model.backbone.get_submodule("body" if method == "fednca_ml" else "").tune(False, False)
    for images in (test.batch(np.arange(n)) for n in (1, 7)):
        probabilities, logits = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(probabilities, model(images).numpy(), atol=1e-4)
            np.testing.assert_allclose(logits, model.logits(images).numpy(), atol=1e-4, rtol=1e-4)
    assert '"classes":["0","1"' in session.get_modelmeta().custom_metadata_map["model"]


@ONNX
def test_a_graph_that_answers_otherwise_is_not_written(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_local(tiny(rounds=1))
    monkeypatch.setattr(export, "TOLERANCE", -1.0)
    with pytest.raises(export.UserError, match=r"model\.onnx: ONNX Runtime answers .* away from PyTorch"):
        export.export(folder)
    assert not list((folder / "export").glob("model.onnx*")) and not list((folder / "export").glob("*.part"))


def test_without_the_extra_the_other_files_are_written(
    tiny: Tiny, no_onnx: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = run_local(tiny(rounds=1, method="fedavg"))
    assert run_main(monkeypatch, folder, "--output", tmp_path / "out") == 0
    assert "model.onnx: left out, it needs more packages: pip install 'fednc[onnx]'" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["MODEL_CARD.md", "model.safetensors"]
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(load_trained(tmp_path / "out" / "model.safetensors")(images), load_trained(folder)(images))


def test_nothing_is_kept_that_could_not_be_compared(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_local(tiny(rounds=1, method="fedavg"))
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else object())
    (folder / "export").mkdir()
    (folder / "export" / "model.onnx").write_bytes(b"of another export")
    assert "left out, it needs more packages" in export.export(folder)[1]
    assert sorted(path.name for path in (folder / "export").iterdir()) == ["MODEL_CARD.md", "model.safetensors"]


@pytest.mark.parametrize(("method", "several"), [("fedloge", False), ("fedloge_ml", True)])
def test_the_card_says_what_the_run_found(tiny_for: Tiny, no_onnx: None, method: str, several: bool) -> None:
    experiment = tiny_for(method, several, rounds=1, finetune_epochs=1)
    folder = run_local(experiment)
    export.export(folder)
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    run, federation = read_run(folder), build_federation(experiment)
    generic, personal = run.generic("aux_head_realigned"), run.personal("finetuned")
    assert generic and personal
    groups = [
        percent(generic[key]) for key in ("macro_auc" if several else "balanced_accuracy", "many", "medium", "few")
    ]
    assert f"| {' | '.join(groups)} |" in card
    worst = [*(percent(personal[key]) for key in ("mean", "std", "worst")), personal["worst_site"]]
    assert f"| fine-tuned | {' | '.join(worst)} |" in card
    for name, train, test in zip(federation.site_names, federation.train_rows, federation.test_rows, strict=True):
        assert f"| {name} | {len(train)} | {len(test)} |" in card
    for c, name in enumerate(federation.dataset.classes):
        assert f"| {name} | {federation.class_counts[c]} |" in card
    for words in ("not a medical device", "https://arxiv.org/abs/2401.08977", "| torch |", f"method: {method}"):
        assert words in card
    assert ("| threshold |" in card) == several


def test_what_is_exported_names_no_folder_of_this_machine(tiny: Tiny, no_onnx: None, tmp_path: Path) -> None:
    folder = run_local(tiny(rounds=1, data_dir=tmp_path / "secret"))
    export.export(folder)
    with safe_open(folder / "export" / "model.safetensors", framework="numpy") as file:
        header = str(file.metadata())
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in header + card and "secret" not in header + card


def test_names_cannot_break_the_cards_tables() -> None:
    from server_app.model_card import _table

    assert _table(["a|b"], [["<b>\nx|y"]]).splitlines() == ["| a\\|b |", "| --- |", "| &lt;b> x\\|y |"]


def test_mistakes_are_one_line(
    tiny: Tiny, no_onnx: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run_local(tiny(rounds=1, method="fedper"))
    (tmp_path / "file").write_text("")
    (tmp_path / "begun").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "MODEL_CARD.md").write_text("of another run")
    (tmp_path / "begun" / "config.json").write_text("{}")
    other = run_local(tiny(rounds=1, method="fedavg", run_name="other"))
    capsys.readouterr()
    for words, message in (
        ((tmp_path,), "is not a run's folder"),
        ((tmp_path / "begun",), "the run has not come to its end"),
        ((folder,), "FedPer has no generic model"),
        ((other, "--head", "frame"), "unknown head 'frame'; known: aux_head"),
        ((other, "--output", tmp_path / "file"), "cannot be written"),
        ((other, "--output", tmp_path / "full"), "is there, and nothing is overwritten"),
    ):
        assert run_main(monkeypatch, *words) == 1
        error = capsys.readouterr().err.strip()
        assert error.startswith("error: ") and "\n" not in error and message in error
