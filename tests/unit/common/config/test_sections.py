"""Sections, method blocks and bare keys: every form of the same thing is the same experiment."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.config import APP_ROOT, KEYS, ROWS, Experiment, build, load
from common.config.layout import flatten, merged
from common.config.listing import markdown
from common.config.rows import keys_where
from common.config.sections import SECTIONS
from common.errors import MistakesError
from common.keys import key_name
from common.methods import METHODS

CHANGED: dict[str, Any] = {
    "learning-rate": 0.5,
    "momentum": 0.25,
    "rounds": 7,
    "sites": 5,
    "seed": 3,
    "dataset": "cifar10",
    "width": 12,
    "finetune-epochs": 2,
    "frame-norm": 3.0,
    "frame-loss": "dot-regression",
}


def home(key: str) -> str:
    return ROWS[key].section or "fedloge"


@given(st.dictionaries(st.sampled_from(sorted(CHANGED)), st.sampled_from(["alone", "dotted", "below"]), min_size=1))
def test_every_form_is_the_same_experiment(forms: dict[str, str]) -> None:
    values: dict[str, Any] = {}
    for key, form in forms.items():
        if form == "below":
            continue
        if form == "alone" and key in SECTIONS and "below" in [forms[k] for k in forms if home(k) == key]:
            form = "dotted"  # a mapping has the name already
        values[key if form == "alone" else f"{home(key)}.{key}"] = CHANGED[key]
    for key in (key for key, form in forms.items() if form == "below"):
        values.setdefault(home(key), {})[key] = CHANGED[key]
    assert build(values) == build({key: CHANGED[key] for key in forms})


def test_names_are_unique() -> None:
    """A key alone is enough: no two keys share a name, and none is a section's or a method's, but for its own."""
    of_sections = [key_name(name) for model in SECTIONS.values() for name in model.model_fields]
    own = {key_name(name) for row in METHODS.values() for name in row.options.model_fields}
    assert len(set(of_sections)) == len(of_sections) and not own & set(of_sections)
    assert {*KEYS} == {"name", "method", *of_sections, *own}
    assert {*KEYS} & {*SECTIONS, *METHODS} == {"sites", "rounds"}
    assert ROWS["sites"].section == "sites" and ROWS["rounds"].section == "rounds"


@pytest.mark.parametrize("method", METHODS)
def test_an_experiment_is_the_same_flat_in_sections_and_copied(method: str) -> None:
    values = {"method": method, **{key: value for key, value in CHANGED.items() if build({"method": method}).has(key)}}
    experiment = build(values)
    assert build(experiment.dump()) == experiment == build(experiment.in_sections())
    assert build(experiment.dump(defaults=False)) == experiment
    assert build(yaml.safe_load(yaml.safe_dump(experiment.in_sections()))) == experiment
    assert set(experiment.dump()) == {key for key in KEYS if experiment.has(key)}
    for other in METHODS:
        assert experiment.replace(method=other).replace(method=other) == experiment.replace(method=other)
        assert type(experiment.replace(method=other).options) is METHODS[other].options
    copy = experiment.replace(rounds=9, learning_rate=0.125, run_name="x")
    assert copy == build({**values, "rounds": 9, "learning-rate": 0.125, "run-name": "x"})
    assert hash(copy) == hash(build(copy.dump()))


def test_a_key_alone_is_every_methods_that_has_it_and_a_block_one_methods() -> None:
    values = {"frame-norm": 3, "fedloge_ml": {"frame-norm": 2}}
    assert build({**values, "method": "fedloge"}).dump()["frame-norm"] == 3
    assert build({**values, "method": "fedloge_ml"}).dump()["frame-norm"] == 2
    assert "frame-norm" not in build({**values, "method": "fedavg"}).dump()
    layers = [{"fedloge.frame-norm": 0.1, "seed": 1}, {"frame-norm": 3}]
    assert merged(layers) == {"seed": 1, "frame-norm": 3}  # what is typed goes before the file
    assert merged(layers[::-1]) == {"seed": 1, "frame-norm": 3, "fedloge.frame-norm": 0.1}
    for block in ({"fedloge": {"frame-norm": 3}, "frame-norm": 2}, {"frame-norm": 2, "fedloge": {"frame-norm": 3}}):
        assert merged([flatten(block)[0]]) == {"frame-norm": 2, "fedloge.frame-norm": 3}  # in whatever order
        assert build(block).dump()["frame-norm"] == 3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"data": {"learning-rate": 1}}, "data.learning-rate = 1: learning-rate stands below train"),
        ({"train.rounds": 1}, "train.rounds = 1: rounds stands below rounds"),
        ({"run": {"method": "fedavg"}}, "run.method = 'fedavg': method stands at the top, below no section"),
        ({"fedavg": {"frame-norm": 1}}, "fedavg.frame-norm = 1: frame-norm stands below fedloge or fedloge_ml"),
        ({"train": {"lerning-rate": 1}}, "unknown key 'train.lerning-rate' (value 1): did you mean 'learning-rate'?"),
        ({"fedloge": {"frame-nrm": 1}}, "unknown key 'fedloge.frame-nrm' (value 1): did you mean 'frame-norm'?"),
        ({"trian": {"momentum": 0.1}}, "did you mean 'train'?"),
        ({"train": 3}, "train = 3: has keys below it (local-epochs, batch-size"),
        ({"fedavg": 3}, "fedavg = 3: a method without keys of its own; leave it out"),
        ({"train": {"momentum": 0.1}, "momentum": 0.2}, "momentum is there twice; give it once"),
        ({"fedloge": {"frame-norm": -1}}, "fedloge.frame-norm = -1: should be greater than 0"),
        ({"method": "fedavg", "fedloge": {"frame-norm": -1}}, "fedloge.frame-norm = -1: should be greater than 0"),
        ({"method": "fedavg", "frame-norm": -1}, "frame-norm = -1: should be greater than 0"),
    ],
)
def test_what_stands_in_the_wrong_place_is_named_with_the_right_one(values: dict[str, Any], said: str) -> None:
    with pytest.raises(MistakesError) as caught:
        build(values)
    assert said in str(caught.value), caught.value
    assert "2 mistakes" not in str(caught.value)


@given(
    st.dictionaries(
        st.sampled_from([*KEYS, *SECTIONS, *METHODS, "train.rounds", "x.y", "fedloge.frame", ".", "train."]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=4),
            lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=9), inner, max_size=2),
            max_leaves=4,
        ),
        max_size=4,
    )
)
def test_anything_is_an_experiment_or_mistakes_by_name(values: dict[str, Any]) -> None:
    flat, found = flatten(values)
    assert all(key.rpartition(".")[2] in ROWS for key in flat) and all(words for _, words in found)
    try:
        assert isinstance(build(values), Experiment)
    except MistakesError as error:
        assert all(words for _, words in error.found)


def test_a_typed_key_is_refused_for_another_method_whatever_its_form(tmp_path: Any) -> None:
    (path := tmp_path / "x.yaml").write_text("method: fedavg\nfedloge: {frame-norm: 3}\nfedprox-mu: 1\n")
    assert load(path, {}, base=tmp_path).method == "fedavg"  # a file that several methods share
    for key in ("frame-norm", "fedloge.frame-norm"):
        with pytest.raises(MistakesError, match="it acts with method: fedloge"):
            load(path, {key: 0.5}, base=tmp_path)
        assert load(path, {key: 0.5, "method": "fedloge"}, base=tmp_path).dump()["frame-norm"] == 0.5
    assert load(path, {"method": "fedloge"}, base=tmp_path).dump()["frame-norm"] == 3


def test_lists_of_keys_are_derived_from_their_declarations() -> None:
    stays = {"data-dir", "image-cache", "image-memory", "output-dir", "resume", "run-name", "trunk-memory"}
    assert keys_where(lambda facts: facts.stays) == stays
    assert all(ROWS[key].facts.resume == "host" for key in stays)
    decides = keys_where(lambda facts: bool(facts.data))
    assert {"dataset", "partition", "seed", "evaluate-on"} <= decides and not decides & stays
    assert not any(ROWS[key].facts.tunable for key in decides | stays | {"method", "rounds", "local-epochs"})
    assert ROWS["learning-rate"].facts.tunable and ROWS["frame-norm"].facts.grid


def test_every_key_is_listed() -> None:
    page = (APP_ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    assert page == markdown(), "run: python -m common.config.listing > configs/README.md"
    assert [key for key in KEYS if f"| `{key}`" not in page] == []


def test_the_page_is_what_its_command_writes() -> None:
    command = [sys.executable, "-m", "common.config.listing"]
    answer = subprocess.run(command, cwd=APP_ROOT, capture_output=True, check=True)
    assert answer.stdout.decode("utf-8") == markdown() and answer.stderr == b""


def test_an_experiment_is_made_of_python_names_too() -> None:
    experiment = build({"method": "fedprox", "fedprox-mu": 0.5, "learning-rate": 0.125})
    assert Experiment.model_validate(experiment.model_dump()) == experiment
    assert Experiment.model_validate_json(experiment.model_dump_json()) == experiment
    assert Experiment(method="fedprox", options={"fedprox-mu": 0.5}, learning_rate=0.125) == experiment
    for wrong in (
        {"options": 3},
        {"options": {"fedprox-mu": 1}, "fedprox": {"fedprox-mu": 2}},
        {"learning-rate": 1, "learning_rate": 2},
    ):
        with pytest.raises(ValidationError):
            Experiment(method="fedprox", **wrong)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("fedloge: {frame: etf}\nfedloge_ml: {frame: sparse_etf}\nmodel: {sparsity: 0.4}\n", {"method": "fedloge_ml"}),
        ("fedloge: {frame: xavier}\nframe-norm: 3\n", {"method": "fedloge_ml"}),
        ("tuned:\n", {}),
        ("tuned: {fedavg: null}\n", {}),
        ("sites: {partition: iid}\n", {"sites": 4}),
    ],
)
def test_a_file_of_several_methods_is_judged_by_all_of_them(text: str, typed: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    assert load(tmp_path / "x.yaml", typed, base=tmp_path)


@pytest.mark.parametrize(
    ("text", "typed", "said"),
    [
        ("fedloge_ml: {frame: xavier, frame-norm: 3}\n", {}, ["fedloge_ml.frame-norm = 3: has no effect here"]),
        ("", {"method": "fedpox", "fedprox-mu": 3}, ["method = 'fedpox': did you mean 'fedprox'?"]),
        ("", {"fedprox-mu": "x"}, ["fedprox-mu = 'x': should be a valid number"]),
        ("tuned: []\n", {}, ["give a method's keys below its name"]),
        ("tuned: 0\n", {}, ["give a method's keys below its name"]),
        ("train: {learning_rate: 1}\n", {}, ["unknown key 'train.learning_rate' (value 1): did you mean"]),
        ("", {"train": {"momentum": 0.1}, "momentum": 0.2}, ["momentum is there twice; give it once"]),
    ],
)
def test_a_mistake_is_one_line(text: str, typed: dict[str, Any], said: list[str], tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(MistakesError) as caught:
        load(tmp_path / "x.yaml", typed, base=tmp_path)
    found = [words for _, words in caught.value.found]
    assert len(found) == len(said) and all(part in words for part, words in zip(said, found, strict=True)), found
