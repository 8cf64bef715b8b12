"""One test over the whole table: what runs, moves, stays, travels and is kept, for every method."""

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from safetensors.numpy import load_file
from sklearn.metrics import confusion_matrix

from client_app.methods import LocalMethod, load
from common import wire
from common.config import APP_ROOT, Experiment
from common.data import Dataset, build_federation
from common.errors import UserError
from common.methods import METHODS, Method
from common.models.model import build_model, coordinator_state, personal_state, shared_state
from common.models.trained import PERSONAL, TrainedModel, load_trained
from common.multilabel_metrics import measure_split
from server_app.engines.engines import run_local
from server_app.report.record import read_run
from server_app.run.journal import read_events

Tiny = Callable[..., Experiment]
# every method, and those that can learn several labels with them too
_TASKS = [(name, False) for name in METHODS] + [(name, True) for name, row in METHODS.items() if row.labels == "any"]
EVERY = pytest.mark.parametrize(
    ("name", "several"), _TASKS, ids=[f"{name}-several" if several else name for name, several in _TASKS]
)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collect the arrays of every reply."""
    replies: list[dict[str, Any]] = []
    real = wire.metrics_reply

    def listening(
        message: Message,
        metrics: dict,
        model: dict | None = None,
        frame_hash: str = "",
        extras: dict | None = None,
        class_metrics: dict | None = None,
    ) -> Message:
        replies.append(model or {})
        answer = real(message, metrics, model, frame_hash, extras, class_metrics)
        request, train = wire.Request(message), message.metadata.message_type == wire.TRAIN
        row = METHODS[request.experiment.method]
        assert bool(model) == (train and row.trains)
        asked_for = row.extras if train and not request.held else ()
        assert {*(extras or {})} == {*asked_for}
        others = {name for name in metrics if not name.startswith("loss-")} - wire.STAGE_METRICS
        assert others <= {"num-examples", "num-test", wire.STARTED_FROM}
        by_class = set() if train else {"class-metrics"}
        assert {*answer.content.array_records} <= {"model"} | ({"extras"} if asked_for else set()) | by_class
        return answer

    monkeypatch.setattr(wire, "metrics_reply", listening)
    return replies


@pytest.fixture
def stood_still(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, set[str]]]:
    """Check, whenever a site trains, that what is frozen is bit-identical after; collect rounds and parts checked."""
    import client_app.app as site_code

    checked: list[tuple[int, set[str]]] = []
    real = site_code.train_site

    def watching(model: Any, *args: Any, **more: Any) -> dict[str, float]:
        given = inspect.signature(real).bind(model, *args, **more).arguments
        row, server_round = METHODS[given["site"].experiment.method], given["server_round"]
        # the coordinator's parts, and in the rounds a head that has no home: it stands still, the same everywhere
        still = {*row.coordinator_parts} | ({*row.parts} - {*row.shared} - {*row.personal} if server_round else set())
        kept = {key: value.clone() for key, value in model.state_dict().items() if key.split(".")[0] in still}
        frames = {key: value.clone() for key, value in model.named_buffers() if key.split(".")[-1] == "frame"}
        losses = real(model, *args, **more)
        now = dict(model.state_dict()) | dict(model.named_buffers())
        assert [key for key, value in (kept | frames).items() if not torch.equal(now[key], value)] == []
        checked.append((server_round, {key.split(".")[0] for key in kept} | ({"frame"} if frames else set())))
        return losses

    monkeypatch.setattr(site_code, "train_site", watching)
    return checked


@EVERY
def test_a_run_keeps_the_methods_promises(
    tiny_for: Tiny,
    name: str,
    several: bool,
    sent: list[dict[str, Any]],
    stood_still: list[tuple[int, set[str]]],
) -> None:
    experiment = tiny_for(name, several, finetune_epochs=1, local_epochs=2, rounds=2)
    row = METHODS[name]
    folder = run_local(experiment)
    frozen = {*row.coordinator_parts} | ({"frame"} if row.frame else set())
    assert sorted(number for number, _ in stood_still if number) == [1] * 3 + [2] * 3
    assert all(frozen <= parts for _, parts in stood_still)
    events = read_events(folder)
    assert [e["answered"] for e in events if e["event"] == "round"] == [3, 3]
    assert not [e for e in events if e["event"] == "rejected"]
    stages = {e["stage"] for e in events if e["event"] == "personal"}
    assert {"arrival", "final", "finetuned"} <= stages
    assert ("realigned" in stages) == row.realigns
    heads = {e["head"] for e in events if e["event"] == "generic"}
    assert (row.reported_head in heads) if row.reported_head else not heads

    frame = torch.zeros(10, 16) if (folder / "frame.json").exists() else None
    start = build_model(experiment, 1, 10, frame, site="site-00")
    shared, kept = shared_state(start, row), personal_state(start, row)
    travelled = [arrays for arrays in sent if arrays]
    assert len(travelled) == (6 if row.trains else 0) and all(arrays.keys() == shared.keys() for arrays in travelled)
    assert not {*shared} & {*kept}

    for name_sent, value in coordinator_state(start, row).items():  # what the coordinator alone changes
        assert not np.array_equal(final_of(folder)[name_sent], value), name_sent

    # what should move moved, in parameters
    final = load_file(folder / "generic.safetensors")
    parameters = {key for key, _ in start.named_parameters()}
    assert all(not np.array_equal(final[key], shared[key]) for key in shared.keys() & parameters)
    stored = folder / "sites" / "site-00" / "personal-00002.safetensors"
    assert stored.exists() == bool(kept)
    assert_the_models_can_be_rebuilt(experiment, folder)
    if kept:
        state = load_file(stored)
        assert state.keys() == kept.keys()
        moving = parameters | {"class_state"}
        assert all(not np.array_equal(state[key], kept[key]) for key in kept.keys() & moving)


def final_of(folder: Path) -> dict[str, Any]:
    return load_file(folder / "generic.safetensors")


def assert_the_models_can_be_rebuilt(experiment: Experiment, folder: Path) -> None:
    """The files that a run leaves give its last metrics again, those of the generic heads and of every site."""
    federation = build_federation(experiment)
    events, record = read_events(folder), read_run(folder)
    everything = np.arange(len(federation.dataset.test))
    finals = [e for e in events if e["event"] == "generic" and e["stage"] == "final"]
    for event in finals:
        model = load_trained(folder, head=event["head"])
        answers, labels = answers_of(model, federation.dataset, everything)
        if federation.dataset.multilabel:
            report = measure_split(answers, labels, {}, experiment.run.seed, "")
            assert event["macro_auc"] == pytest.approx(report.macro_auc, abs=1e-12)
            assert model.thresholds.tolist() == list(report.thresholds)
        else:
            hits = answers.argmax(axis=1) == labels
            assert event["per_class"] == [hits[labels == c].mean() for c in range(10)]
            matrix = confusion_matrix(labels, answers.argmax(axis=1), labels=np.arange(10))
            assert event["confusion"] == [[*pair, matrix[*pair]] for pair in np.argwhere(matrix).tolist()]
            assert record.confusion(event["head"]) == {(t, p): images for t, p, images in event["confusion"]}
    if not finals:
        with pytest.raises(UserError, match="has no generic model"):
            load_trained(folder)
    last = [e for e in events if e["event"] == "personal"][-1]
    for site, (name, rows) in enumerate(zip(federation.site_names, federation.test_rows, strict=True)):
        model = load_trained(folder, folder / "sites" / name / PERSONAL)
        answers, labels = answers_of(model, federation.dataset, rows)
        if federation.dataset.multilabel:
            mask = None if federation.visible is None else np.tile(federation.visible[site], (len(rows), 1))
            report = measure_split(answers, labels, {}, experiment.run.seed, name, mask)
            reported = last["sites"][name]["macro_auc"]
            assert reported == pytest.approx(report.macro_auc) or np.isnan(report.macro_auc)
            assert np.isnan(report.thresholds).any() or model.thresholds.tolist() == list(report.thresholds)
            by_class = [None if np.isnan(auc) else pytest.approx(auc) for auc in report.auc]
        else:
            hits = answers.argmax(axis=1) == labels
            assert last["sites"][name]["accuracy"] == hits.mean()
            by_class = [hits[labels == c].mean() if (labels == c).any() else None for c in range(10)]
        assert record.site_class_accuracy(last["stage"])[name] == by_class


def answers_of(model: TrainedModel, dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        return model(dataset.test.batch(rows)).numpy(), dataset.test.labels[rows]


@EVERY
def test_a_tiny_site_and_an_empty_one_take_part(tiny_for: Tiny, name: str, several: bool) -> None:
    few = {"composites": 40} if several or METHODS[name].labels == "many" else {"head_class_size": 8}
    experiment = tiny_for(name, several, sites=12, dirichlet=0.05, min_site_size=0, rounds=1, finetune_epochs=1, **few)
    folder = run_local(experiment)
    counts = np.array([len(rows) for rows in build_federation(experiment).train_rows])
    assert (counts == 0).any() or several or METHODS[name].labels == "many"
    assert ((counts > 0) & (counts < 4)).any()
    events = read_events(folder)
    assert [e["answered"] for e in events if e["event"] == "round"] == [12]
    assert all(np.isfinite(list(e["loss"].values())).all() for e in events if e["event"] == "round")
    assert not [e for e in events if e["event"] == "rejected"]


@EVERY
def test_personal_state_survives_between_rounds(
    tiny_for: Tiny, name: str, several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second round starts from what the first one left on the site's disk."""
    experiment = tiny_for(name, several)
    if not personal_state(build_model(experiment, 1, 10, torch.zeros(10, 16), site="site-00"), METHODS[name]):
        pytest.skip(f"{name} keeps nothing at the site")
    import client_app.app as site_code

    seen: list[tuple[dict[str, Any], dict[str, Any]]] = []
    real = site_code.train_site

    def watching(model: Any, *args: Any, **more: Any) -> dict[str, float]:
        before = personal_state(model, METHODS[name])
        losses = real(model, *args, **more)
        if inspect.signature(real).bind(model, *args, **more).arguments["site"].name == "site-00":
            seen.append((before, personal_state(model, METHODS[name])))
        return losses

    monkeypatch.setattr(site_code, "train_site", watching)
    run_local(experiment)
    (_, left), (found, _) = seen
    assert all(np.array_equal(left[key], found[key]) for key in left)


@pytest.mark.parametrize("name", ["ditto", "fedrod"])
def test_a_site_that_never_trained_predicts_as_the_generic_model(tiny: Tiny, name: str) -> None:
    """Its personal parts start from what arrived, in whatever round that is."""
    experiment = tiny(method=name, sites=6, participation=0.2, rounds=2)
    folder = run_local(experiment)
    trained = {path.parent.name for path in folder.glob("sites/*/personal-*.safetensors")}
    assert 0 < len(trained) < 6
    generic = load_file(folder / "generic.safetensors")
    for site in {f"site-{i:02}" for i in range(6)} - trained:
        saved = load_file(folder / "sites" / site / "personal_model.safetensors")
        assert saved.keys() == {"head.weight"}  # nothing differs from the generic backbone
        np.testing.assert_array_equal(saved["head.weight"], generic["aux_head.weight"])


def test_fine_tuning_moves_the_whole_model_for_fedbabu_and_the_head_alone_elsewhere(tiny: Tiny) -> None:
    for name, whole in (("fedbabu", True), ("fedavg", False), ("fedrod", False)):
        folder = run_local(tiny(method=name, finetune_epochs=1, run_name=name))
        saved = load_file(folder / "sites" / "site-00" / "personal_model.safetensors")
        assert any(key.startswith("backbone.") for key in saved) == whole
        generic = load_file(folder / "generic.safetensors")
        assert not np.array_equal(saved["head.weight"], generic["aux_head.weight"])


def test_every_row_has_its_file_and_every_file_its_row() -> None:
    folder = Path(load.__code__.co_filename).parent
    files = {path.stem for path in folder.glob("*.py")} - {"__init__", "base", "realign"}
    assert files == set(METHODS)
    assert all(isinstance(load(name), LocalMethod) for name in METHODS)


def test_a_frozen_random_head_neither_trains_nor_travels(
    tiny: Tiny, sent: list[dict[str, Any]], stood_still: list[tuple[int, set[str]]]
) -> None:
    experiment = tiny(method="fedbabu", finetune_epochs=0)
    folder = run_local(experiment)
    assert [parts for _, parts in stood_still] == [{"aux_head"}] * 6
    start = build_model(experiment, 1, 10)
    assert not [key for arrays in sent for key in arrays if "head" in key]
    final = load_file(folder / "generic.safetensors")
    assert np.array_equal(final["aux_head.weight"], start.aux_head.weight.detach().numpy())


def test_the_example_of_a_new_method_runs(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files: the two code blocks under 'Add a method'."""
    page = (APP_ROOT / "client_app" / "methods" / "README.md").read_text(encoding="utf-8")
    section = page.split("## Add a method")[1].split("\n## ")[0]
    row, file = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert row.count("\n") + file.count("\n") <= 24
    exec(row, agreed := dict[str, Any]())
    method = agreed["METHOD"]
    assert isinstance(method, Method)
    module = ModuleType(f"client_app.methods.{method.name}")
    exec(file, module.__dict__)
    monkeypatch.setitem(METHODS, method.name, method)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    folder = run_local(tiny(method=method.name, rounds=1))
    assert any(e["event"] == "generic" and e["stage"] == "final" for e in read_events(folder))
