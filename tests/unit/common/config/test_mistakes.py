"""Every mistake at once, each with the source that it stands in; keys that change nothing are refused."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config import APP_ROOT, KEYS, build, drop_ineffective, load
from common.config.effects import missing_condition, missing_condition_everywhere
from common.config.experiment import Experiment
from common.config.rows import ROWS
from common.config.sections import RoundsSection
from common.config.values import Values
from common.errors import MistakesError, UserError, print_error
from common.methods import METHODS
from common.models.model import frame_kind, uses_attention
from common.validation import unknown_keys, valid_fields

ErrorOf = Callable[[Callable[[], object]], str]
YamlFile = Callable[[str], Path]
HERE = Path("/nowhere")


def mistakes(call: Callable[[], object]) -> list[tuple[str, str]]:
    """Return where and what of each mistake that a call ends with."""
    with pytest.raises(MistakesError) as caught:
        call()
    return list(caught.value.found)


def test_a_files_mistakes_are_all_listed(yaml_file: YamlFile) -> None:
    path = yaml_file(
        "datset: digits\nrounds: 0\nparticipation: 2\npartition: natural\nframe: etf\nsparsity: 0.8\nresume: true\n"
    )
    found = mistakes(lambda: load(path, base=HERE))
    assert {where for where, _ in found} == {str(path)}
    words = [said for _, said in found]
    for start in (
        "unknown key 'datset' (value 'digits'): did you mean 'dataset'?",
        "rounds = 0: ",
        "participation = 2: ",
        "partition = 'natural' needs site-key",
        "sparsity = 0.8: has no effect here, it acts with a frame other than etf",
        "resume = True: needs run-name",
    ):
        assert sum(said.startswith(start) for said in words) == 1, words
    assert len(words) == 6


def test_a_mistake_has_the_source_that_it_stands_in(yaml_file: YamlFile) -> None:
    path = yaml_file(
        "roudns: 3\ntuned:\n  fedavg: {learning-rate: -1}\n  fedper: {seed: 1, batch-sizes: 3}\n  fedpre: {width: 3}\n"
    )
    found = mistakes(lambda: load(path, {"sedd": 1, "sites": 0, "method": "fedavg"}, base=HERE))
    of = {said.split(":")[0].split(" (")[0]: where for where, said in found}
    assert of == {
        "unknown key 'roudns'": str(path),
        "learning-rate = -1": f"{path}: tuned: fedavg",
        "seed is the experiment's, the same for all methods": f"{path}: tuned: fedper",
        "unknown key 'batch-sizes'": f"{path}: tuned: fedper",
        "unknown method 'fedpre'": f"{path}: tuned",
        "unknown key 'sedd'": "command line",
        "sites = 0": "command line",
    }
    assert mistakes(lambda: load(yaml_file(""), {"sites": 0})) == [
        ("run-config", "sites = 0: should be greater than or equal to 1")
    ]


def test_a_block_that_is_no_mapping_hides_no_other_mistake(yaml_file: YamlFile) -> None:
    path = yaml_file("tuned:\n  ditto: 3\n  fedavg: {learning-rate: -1}\n  fedpre: {}\n")
    for method in ("ditto", "fedavg"):
        found = mistakes(lambda: load(path, {"method": method}, base=HERE))  # noqa: B023
        assert sorted(where for where, _ in found) == [f"{path}: tuned{of}" for of in ("", ": ditto", ": fedavg")]
        assert any(said.startswith("3: give a method's keys below its name") for _, said in found)


@pytest.mark.parametrize(("key", "most"), [("name", 64), ("run-name", 120)])
def test_a_name_that_cannot_be_is_explained_without_a_pattern(key: str, most: int) -> None:
    words = f"should be 1 to {most} letters, digits, '_', '-' or '.', and begin with none of the last two"
    for bad in ("../a", "a b", "-a", "a" * (most + 1)):
        ((_, said),) = mistakes(lambda: load(overrides={key: bad}))  # noqa: B023
        assert said.endswith(words) and "pattern" not in said
    assert load(overrides={key: "a" * most})


def test_a_contradiction_is_of_the_source_with_which_it_comes_up(yaml_file: YamlFile) -> None:
    sites = yaml_file("partition: natural\ndataset: npz\nsite-key: center\n")
    typed = mistakes(lambda: load(sites, {"seed": 1, "dataset": "digits", "sites": 3}, base=HERE))
    assert [(where, said.split(" = ")[0]) for where, said in typed] == [
        ("command line", "sites"),
        ("command line", "site-key"),
    ]
    none = yaml_file("partition: natural\n")
    assert [where for where, _ in mistakes(lambda: load(none, {"seed": 1}, base=HERE))] == [str(none)]
    named = mistakes(lambda: load(yaml_file(""), {"sites": 0}, base=HERE, sources={"sites": "--study"}))
    assert named[0][0] == "--study"


def test_nothing_is_said_about_what_depends_on_a_bad_value(yaml_file: YamlFile) -> None:
    path = yaml_file("partition: deployd\nclasses: [a, b]\nlabels: one\naggregation: medain\ntrimmed-share: 0.1\n")
    assert [said.split(" = ")[0] for _, said in mistakes(lambda: load(path, base=HERE))] == ["partition", "aggregation"]


def test_an_empty_value_hides_no_unknown_key(yaml_file: YamlFile, error_of: ErrorOf) -> None:
    assert "'rouds'" in error_of(lambda: load(yaml_file(""), {"rouds": ""}, base=HERE))
    assert "'rouds'" in error_of(lambda: load(yaml_file("rouds: ''\n"), base=HERE))
    assert "'rouds'" in error_of(lambda: load(yaml_file("tuned: {fedavg: {rouds: ''}}\n"), base=HERE))


def test_one_mistake_is_one_line_and_several_are_a_list(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(MistakesError([("a.yaml", "x"), ("a.yaml", "x")]))
    print_error(MistakesError([("a.yaml", "x"), ("a.yaml", "y")]))
    print_error(MistakesError([("a.yaml", "x"), ("command line", "y")]))
    print_error(UserError("plain"))
    assert capsys.readouterr().err.splitlines() == [
        "error: a.yaml: x",
        *("error: a.yaml: 2 mistakes", "  x", "  y"),
        *("error: a.yaml, command line: 2 mistakes", "  a.yaml: x", "  command line: y"),
        "error: plain",
    ]
    many = MistakesError([("a.yaml", f"mistake {i}\n") for i in range(500)])
    assert len(many.lines) == 31 and many.lines[-1] == "and 470 more"
    assert str(many).isprintable() and str(many).startswith("a.yaml: 500 mistakes: mistake 0")


def test_all_keys_are_listed_once() -> None:
    found = unknown_keys({"zzzz": 1, "yyyy": 2, "round": 3}, KEYS)
    assert [("lists every key" in said, "did you mean" in said) for _, said in found] == [
        (True, False),
        (False, False),
        (False, True),
    ]
    fields, wrong = valid_fields(RoundsSection, {"rounds": 0, "quorum": 0.4})
    assert fields is not None and (fields.rounds, fields.quorum) == (500, 0.4) and len(wrong) == 1


# --- keys without effect ----------------------------------------------------------------------------

METHOD_KEYS = {key: row.acts.methods for key, row in ROWS.items() if row.acts.methods}

IDLE: list[tuple[dict[str, Any], str]] = [
    ({"frame": "etf", "sparsity": 0.8}, "a frame other than etf"),
    ({"frame": "etf", "frame-solver": "mma"}, "sparse_etf"),
    ({"mma-steps": 10}, "frame-solver: mma"),
    ({"mma-optimizer": "sgd"}, "frame-solver: mma"),
    ({"mma-learning-rate": 1e-3}, "frame-solver: mma"),
    ({"frame": "xavier", "frame-norm": 0.1}, "frame: etf or sparse_etf"),
    ({"optimizer": "adamw", "momentum": 0.9}, "optimizer: sgd"),
    ({"optimizer": "adam", "nesterov": True}, "optimizer: sgd and momentum above 0"),
    ({"momentum": 0, "nesterov": True}, "optimizer: sgd and momentum above 0"),
    ({"adam-beta1": 0.5}, "optimizer: adamw or adam"),
    ({"adam-beta2": 0.5}, "optimizer: adamw or adam"),
    ({"momentum": 0, "optimizer-state": "kept"}, "momentum above 0, or an optimizer other than sgd"),
    ({"loss": "focal", "label-smoothing": 0.1}, "loss: cross-entropy"),
    ({"focal-gamma": 1}, "loss: focal"),
    ({"step-rounds": 3}, "schedule: step"),
    ({"schedule": "cosine", "step-factor": 0.5}, "schedule: step"),
    ({"poly-power": 2}, "schedule: poly"),
    ({"server-learning-rate": 0.5}, "server-optimizer: momentum or adam or yogi or adagrad"),
    ({"server-optimizer": "adam", "server-momentum": 0.5}, "server-optimizer: momentum"),
    ({"server-optimizer": "adagrad", "server-beta1": 0.5}, "server-optimizer: adam or yogi"),
    ({"server-optimizer": "momentum", "server-beta2": 0.5}, "server-optimizer: adam or yogi"),
    ({"server-optimizer": "momentum", "server-tau": 0.5}, "server-optimizer: adam or yogi or adagrad"),
    ({"trimmed-share": 0.1}, "aggregation: trimmed-mean"),
    ({"wrong-sites": 2}, "aggregation: multi-krum"),
    ({"partition": "iid", "dirichlet": 0.1}, "partition: dirichlet"),
    ({"partition": "iid", "label-rule": "strict"}, "partition: dirichlet"),
    ({"partition": "natural", "dataset": "inaturalist", "sites": 3}, "partition: dirichlet or iid or deployed"),
    ({"partition": "natural", "dataset": "inaturalist", "keep-patients": False}, "partition: dirichlet or iid"),
    ({"dataset": "npz", "site-key": "center"}, "partition: natural"),
    ({"classes": ["a", "b"]}, "partition: deployed"),
    ({"pixel-mean": [0.1]}, "partition: deployed"),
    ({"pixel-std": [0.1]}, "partition: deployed"),
    ({"finetune-learning-rate": 0.1}, "finetune-epochs above 0"),
    ({"attention": False, "attention-heads": 2}, "attention"),
    ({"realign-bias": "scale"}, "head-bias: true"),
    ({"rest-after": 0, "rest-rounds": 2}, "rest-after above 0"),
    *(
        ({"partition": "deployed", "classes": ["a", "b"], key: value}, "partition: dirichlet or iid or natural")
        for key, value in (
            ("head-class-size", 5),
            ("imbalance-factor", 2),
            ("min-site-size", 2),
            ("local-test", "paper"),
            ("evaluate-on", "validation"),
        )
    ),
]


@pytest.mark.parametrize(("keys", "needed"), IDLE, ids=lambda part: str(part)[:60])
def test_a_key_without_effect_is_refused_in_a_file_and_on_the_command_line(
    keys: dict[str, Any], needed: str, yaml_file: YamlFile
) -> None:
    key = list(keys)[-1]
    for call, where in (
        (lambda: load(yaml_file(yaml.safe_dump(keys)), base=HERE), "exp.yaml"),
        (lambda: load(yaml_file(""), keys, base=HERE), "command line"),
    ):
        found = mistakes(call)
        assert len(found) == 1, found
        assert found[0][0].endswith(where) and found[0][1].startswith(f"{key} = ") and needed in found[0][1]
    assert build(keys).dump()[key] == keys[key]  # a whole experiment is never refused for it


@pytest.mark.parametrize("key", METHOD_KEYS)
def test_a_methods_key_is_refused_for_another_method_on_the_command_line_alone(key: str, yaml_file: YamlFile) -> None:
    other = {
        "frame": "etf",
        "frame-loss": "dot-regression",
        "frame-projection": True,
        "frame-trains": True,
        "feature-range": 32,
        "own-balance": 0.5,
        "ridge-balance": 0.5,
        "realign": "sum",
        "realign-bias": "drop",
        "realign-global": "none",
    }.get(key, 3)
    method = next(name for name in METHODS if name not in METHOD_KEYS[key])
    bias = {"head-bias": True}
    found = mistakes(lambda: load(yaml_file(""), {"method": method, key: other, **bias}, base=HERE))
    assert len(found) == 1 and "it acts with method: " in found[0][1]
    shared = yaml_file(f"{key}: {str(other).lower()}\nhead-bias: true\n")
    assert load(shared, {"method": method}, base=HERE).method == method  # a comparison reads it
    assert load(yaml_file(""), {"method": method, key: other, **bias}, base=HERE, single=False).method == method
    for reader in METHOD_KEYS[key]:
        assert load(yaml_file(""), {"method": reader, key: other, **bias}, base=HERE).method == reader
    tuned = yaml_file(f"tuned: {{{method}: {{{key}: {str(other).lower()}}}}}\n")
    assert "has no effect here" in mistakes(lambda: load(tuned, base=HERE))[0][1]


def test_a_files_key_may_lose_its_use_to_the_command_line(yaml_file: YamlFile) -> None:
    path = yaml_file("dirichlet: 0.1\nsparsity: 0.8\n")
    experiment = load(path, {"partition": "iid", "frame": "etf"}, base=HERE)
    assert load(experiment_file := yaml_file_of(experiment, path.parent), base=HERE).dump() == experiment.dump()
    assert experiment_file.is_file()
    assert drop_ineffective({"dirichlet": 0.1, "sparsity": 0.8, "sites": 40, "tuned": {}}, experiment) == {
        "sites": 40,
        "tuned": {},
    }


def yaml_file_of(experiment: Experiment, folder: Path) -> Path:
    """Write the whole experiment, as Flower's engine does."""
    path = folder / "whole.yaml"
    path.write_text(yaml.safe_dump(experiment.dump()), encoding="utf-8")
    return path


def test_a_default_that_is_written_out_is_no_mistake(yaml_file: YamlFile) -> None:
    assert load(yaml_file("frame: etf\nsparsity: 0.6\ntrimmed-share: 0.2\npartition: iid\ndirichlet: 0.5\n"), base=HERE)


def test_tuning_reads_a_files_share_of_validation_images(yaml_file: YamlFile) -> None:
    assert load(yaml_file("validation-share: 0.3\n"), base=HERE).data.validation_share == 0.3
    assert (
        "evaluate-on: validation" in mistakes(lambda: load(yaml_file(""), {"validation-share": 0.3}, base=HERE))[0][1]
    )


def test_a_key_acts_somewhere_or_nowhere() -> None:
    frames = [build({"frame": frame, "sparsity": 0.8}) for frame in ("etf", "sparse_etf")]
    assert missing_condition_everywhere("sparsity", frames) == ""
    assert missing_condition_everywhere("sparsity", frames[:1]) != ""
    assert missing_condition_everywhere("sparsity", [build({})]) == ""  # the default is no wish


@pytest.mark.parametrize("method", METHODS)
def test_whether_a_frames_keys_act_is_what_the_model_says(method: str) -> None:
    for attention in (None, True, False) if METHODS[method].trains else (None, False):
        keys = {"sparsity": 0.5, "query-frame": "sparse_etf", "attention-heads": 2, "frame-solver": "mma"}
        experiment = build({"method": method, "attention": attention, **keys})
        assert (missing_condition("sparsity", experiment) == "") == (frame_kind(experiment) not in ("", "etf"))
        assert (missing_condition("frame-solver", experiment) == "") == (frame_kind(experiment) == "sparse_etf")
        assert (missing_condition("attention-heads", experiment) == "") == uses_attention(experiment)
        asks = METHODS[method].frame == "query" or (not METHODS[method].frame and uses_attention(experiment))
        assert (missing_condition("query-frame", experiment) == "") == asks


def test_the_table_names_keys_and_methods_that_exist() -> None:
    assert all(set(row.acts.methods) <= set(METHODS) for row in ROWS.values())
    with_conditions = [row for row in ROWS.values() if row.acts.when or row.acts.inside]
    assert len(with_conditions) >= 30
    for condition in (c for row in with_conditions for c in (row.acts.when, row.acts.inside) if c):
        condition.holds(Values(build({})))  # it reads keys that there are


@pytest.mark.parametrize("path", sorted((APP_ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
@pytest.mark.parametrize("method", METHODS)
def test_shipped_configurations_have_no_idle_key_for_any_method(path: Path, method: str) -> None:
    assert load(path, {"method": method}, base=APP_ROOT).method == method


def test_reading_a_configuration_imports_nothing_heavy() -> None:
    program = "import sys, common.config; print(sorted({'torch', 'flwr', 'sklearn', 'numpy', 'ray'} & {*sys.modules}))"
    answer = subprocess.run([sys.executable, "-c", program], cwd=APP_ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
