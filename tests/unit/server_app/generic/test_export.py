"""An exported model answers as the run's did, as safetensors and as ONNX, and its card says what it is."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.models.trained import load_trained
from server_app import cli
from server_app.engines.engines import run_local
from server_app.generic import export
from server_app.generic.model_card import model_card
from server_app.report.record import read_run
from server_app.run.journal import percent

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
def test_onnx_answers_as_pytorch_does_for_any_batch(
    tiny_for: Tiny, trained: TrainedRuns, method: str, changes: dict[str, Any]
) -> None:
    import onnxruntime

    experiment = tiny_for(method, rounds=1, **changes)
    folder = trained.copy(method=method, rounds=1, **changes)
    lines, trouble = export.export(folder)
    assert "its answers differ from PyTorch's by" in lines[1] and not trouble
    session = onnxruntime.InferenceSession(folder / "export" / "model.onnx", providers=["CPUExecutionProvider"])
    model, test = load_trained(folder / "export" / "model.safetensors"), build_federation(experiment).dataset.test
    model.backbone.get_submodule("body" if method == "fednca_ml" else "").set_format(False, False)
    for images in (test.batch(np.arange(n)) for n in (1, 7)):
        probabilities, logits = session.run(None, {"images": images.numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(probabilities, model(images).numpy(), atol=1e-4)
            np.testing.assert_allclose(logits, model.logits(images).numpy(), atol=1e-4, rtol=1e-4)
    assert '"classes":["0","1"' in session.get_modelmeta().custom_metadata_map["model"]


def failing(*_: object, **__: object) -> None:
    try:
        raise ValueError(f"no such operator, see {Path(export.__file__)}:\n  a long trace")
    except ValueError as cause:
        raise RuntimeError("please report this") from cause


@ONNX
@pytest.mark.parametrize(
    ("replaced", "what", "message"),
    [
        ("server_app.generic.export.TOLERANCE", -1.0, "model.onnx: ONNX Runtime answers "),
        ("torch.onnx.export", failing, "model.onnx: not written: ValueError: no such operator, see "),
        ("onnx.save", failing, "model.onnx: not written: ValueError: no such operator, see "),
        ("onnxruntime.InferenceSession", failing, "model.onnx: not written: ValueError: no such operator, see "),
    ],
)
def test_the_other_files_are_written_where_onnx_cannot_be(
    trained: TrainedRuns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    replaced: str,
    what: object,
    message: str,
) -> None:
    """Whether an answer differs or something fails: one line says why, and the exit code is 1."""
    folder = trained.copy(rounds=1, method="fedavg")
    (folder / "export").mkdir()
    (folder / "export" / "model.onnx").write_bytes(b"of another export")
    capsys.readouterr()
    monkeypatch.setattr(replaced, what)
    assert run_main(monkeypatch, folder) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {message}") and said.err.count("\n") == 1
    assert "model.onnx: not written: " in said.out and "MODEL_CARD.md" in said.out
    assert sorted(path.name for path in (folder / "export").iterdir()) == ["MODEL_CARD.md", "model.safetensors"]
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "| `model.onnx` | not written" in card and str(Path(export.__file__).parent) not in card


@ONNX
def test_an_onnx_file_has_no_notes_of_its_exporter(tmp_path: Path) -> None:
    """At any depth: of the model, its graph, nodes, values, branches and functions."""
    import onnx
    from onnx import helper

    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1], doc_string="secret")
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"], doc_string="secret")], "b", [], [value], [], "secret"
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    weight = helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], [0.0])
    inner = helper.make_node("Neg", ["x"], ["y"], doc_string="secret")
    function = helper.make_function("own", "f", ["x"], ["y"], [inner], [helper.make_opsetid("", 18)])
    graph = helper.make_graph([node], "g", [value], [value], [weight])
    model = helper.make_model(graph, functions=[function], doc_string="secret")
    for part in (model, graph, node, value, weight, function, *branch.node, *model.graph.node, model.graph):
        part.metadata_props.append(onnx.StringStringEntryProto(key="secret", value="secret"))
    assert model.SerializeToString().count(b"secret") > 8
    export._forget_notes(model)
    assert b"secret" not in model.SerializeToString()
    assert [n.op_type for n in model.graph.node] == ["If"] and len(model.functions) == 1


def test_without_the_extra_the_other_files_are_written(
    trained: TrainedRuns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder = trained.copy(rounds=1, method="fedavg")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert run_main(monkeypatch, folder, "--output", tmp_path / "out") == 0
    assert "model.onnx: left out, it needs more packages: pip install 'fednc[onnx]'" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["MODEL_CARD.md", "model.safetensors"]
    images = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8)
    assert torch.equal(load_trained(tmp_path / "out" / "model.safetensors")(images), load_trained(folder)(images))


def test_nothing_is_kept_that_could_not_be_compared(trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained.copy(rounds=1, method="fedavg")
    monkeypatch.setattr(export, "find_spec", lambda name: None if name == "onnxruntime" else object())
    (folder / "export").mkdir()
    (folder / "export" / "model.onnx").write_bytes(b"of another export")
    assert "left out, it needs more packages" in export.export(folder)[0][1]
    assert sorted(path.name for path in (folder / "export").iterdir()) == ["MODEL_CARD.md", "model.safetensors"]


@pytest.mark.parametrize(("method", "several"), [("fedloge", False), ("fedloge_ml", True)])
def test_the_card_says_what_the_run_found(
    tiny_for: Tiny, trained: TrainedRuns, monkeypatch: pytest.MonkeyPatch, method: str, several: bool
) -> None:
    experiment = tiny_for(method, several, rounds=1, finetune_epochs=1)
    folder = trained.copy(method=method, multilabel=several, rounds=1, finetune_epochs=1)
    monkeypatch.setattr(export, "find_spec", lambda name: None)
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
    assert "| fitting | short side resized (bicubic), square cut from the centre |" in card
    assert ("| threshold |" in card) == several
    model = load_trained(folder)
    for changes, words in (
        ({"interpolation": "bilinear"}, "short side resized (bilinear)"),
        ({"size": (8, 9)}, "none: of exactly this size"),
    ):
        model.about = model.about.model_copy(update=changes)
        assert f"| fitting | {words}" in model_card(folder, model, model.experiment.dump(), "")


def test_what_is_exported_names_no_folder_of_this_machine(tiny: Tiny, no_onnx: None, tmp_path: Path) -> None:
    folder = run_local(tiny(rounds=1, data_dir=tmp_path / "secret"))
    export.export(folder)
    with safe_open(folder / "export" / "model.safetensors", framework="numpy") as file:
        header = str(file.metadata())
    card = (folder / "export" / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert str(tmp_path) not in header + card and "secret" not in header + card


def test_mistakes_are_one_line(
    trained: TrainedRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(rounds=1, method="fedper")
    (tmp_path / "file").write_text("")
    (tmp_path / "begun").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "MODEL_CARD.md").write_text("of another run")
    (tmp_path / "begun" / "config.json").write_text("{}")
    other = trained.copy(rounds=1, method="fedavg")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
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
