"""The experiment's sources, its paths, and the one line a user gets for each mistake."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from common.config import APP_ROOT, KEYS, build, load
from common.methods import METHODS

ErrorOf = Callable[[Callable[[], object]], str]
YamlFile = Callable[[str], Path]


# --- sources: defaults, then YAML, then overrides ---------------------------------------------------


def test_later_sources_win(yaml_file: YamlFile) -> None:
    path = yaml_file("rounds: 7\nseed: 3\n")
    experiment = load(path, {"seed": 4, "method": "fedavg"})
    assert (experiment.rounds.rounds, experiment.run.seed, experiment.method) == (7, 4, "fedavg")
    assert experiment.train.local_epochs == build({}).train.local_epochs
    assert experiment.name == "exp"  # the file's, where it names none
    assert load(yaml_file("name: other")).name == "other"


def test_a_method_has_its_own_tuned_values(yaml_file: YamlFile) -> None:
    path = yaml_file(
        "learning-rate: 1\ntuned:\n  fedavg: {learning-rate: 2, batch-size: 8}\n  fedper: {learning-rate: 3}\n"
    )
    rate = {name: load(path, {"method": name}).train.learning_rate for name in ("fedavg", "fedper", "fedrep")}
    assert rate == {"fedavg": 2, "fedper": 3, "fedrep": 1}
    assert load(path, {"method": "fedavg"}).train.batch_size == 8
    assert load(path, {"method": "fedavg", "learning-rate": 4}).train.learning_rate == 4  # what is typed wins
    own = "method: fedavg\ntuned: {fedavg: {batch-size: 7}}\n"
    assert load(yaml_file(own)).train.batch_size == load(yaml_file(own), {"method": ""}).train.batch_size == 7
    assert load(yaml_file(own), {"method": "fedper"}).train.batch_size == build({}).train.batch_size


@pytest.mark.parametrize(
    ("tuned", "said"),
    [
        ("fedavgg: {batch-size: 7}", "did you mean 'fedavg'"),
        ("fedavg: {round: 7}", "rounds"),
        ("fedavg: {seed: 7}", "seed is the experiment's"),
        ("fedavg: {rounds: 7}", "rounds is the experiment's"),
        ("fedavg: 3", "below its name"),
        ("[fedavg]", "below its name"),
        ("7: {batch-size: 7}", "unknown method"),
        ("fedavg: {7: 7}", "unknown key"),
    ],
)
def test_what_is_wrong_under_tuned_is_said_whatever_the_method(
    tuned: str, said: str, yaml_file: YamlFile, error_of: ErrorOf
) -> None:
    text = f"tuned: {tuned}" if tuned.startswith("[") else f"tuned:\n  {tuned}"
    message = error_of(lambda: load(yaml_file(text), {"method": "fedloge"}))
    assert said in message and "tuned" in message and "exp.yaml" in message


def test_a_key_twice_is_refused(yaml_file: YamlFile, error_of: ErrorOf) -> None:
    twice = "tuned:\n  fedavg: {batch-size: 8}\nrounds: 3\ntuned:\n  fedper: {batch-size: 4}\n"
    assert "'tuned' is there twice; put both into one" in error_of(lambda: load(yaml_file(twice)))


def test_an_empty_override_is_not_given(yaml_file: YamlFile) -> None:
    path = yaml_file("rounds: 7\ndata-dir: /images\n")
    assert load(path, {"rounds": "", "data-dir": "", "run-name": ""}) == load(path)
    assert load(path, {"rounds": ""}, base=path.parent).rounds.rounds == 7


def test_an_empty_file_is_all_defaults(yaml_file: YamlFile) -> None:
    assert load(yaml_file("# nothing\n"), {"name": "experiment"}) == build({})


def test_text_from_a_command_line_becomes_numbers(yaml_file: YamlFile) -> None:
    experiment = load(yaml_file(""), {"rounds": "12", "learning-rate": "1e-3", "head-bias": "true"})
    assert (experiment.rounds.rounds, experiment.train.learning_rate, experiment.model.head_bias) == (12, 1e-3, True)


def test_an_experiment_is_frozen() -> None:
    experiment = build({})
    with pytest.raises(ValidationError):
        experiment.rounds.rounds = 3
    assert experiment.rounds.rounds == 500


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "rounds": st.integers(1, 10**6),
            "seed": st.integers(0, 2**80),
            "participation": st.floats(0, 1, exclude_min=True),
            "learning-rate": st.floats(1e-12, 1e6),
            "data-dir": st.sampled_from([None, "/images", "/a b/ü.npz"]),
            "output-dir": st.just("/runs"),
            "method": st.sampled_from(sorted(METHODS)),
            "head-bias": st.booleans(),
            "width": st.none() | st.integers(1, 512),
            "run-name": st.none() | st.from_regex(r"[a-z][a-z0-9._-]{0,20}", fullmatch=True),
        },
    )
)
def test_a_dump_round_trips_through_json(values: dict[str, Any]) -> None:
    experiment = build(values)
    dumped = json.loads(json.dumps(experiment.dump(), allow_nan=False))
    assert sorted(dumped) == sorted(key for key in KEYS if experiment.has(key))
    assert build(dumped) == experiment
    assert all(dumped[key] == value for key, value in values.items())


CONFIGS = APP_ROOT / "configs"


@pytest.mark.parametrize("name", sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml")))
def test_shipped_configurations_are_valid(name: str) -> None:
    experiment = load(f"configs/{name}")
    assert build(experiment.dump()) == experiment


# --- keys and values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("round", "rounds"),
        ("learning-rte", "learning-rate"),
        ("lerning_rate", "learning-rate"),
        ("datadir", "data-dir"),
        ("Backbone", "backbone"),
        ("particpation", "participation"),
        *[(key.replace("-", "_"), key) for key in KEYS if "-" in key],
    ],
)
def test_an_unknown_key_names_the_nearest(typo: str, meant: str, yaml_file: YamlFile, error_of: ErrorOf) -> None:
    message = error_of(lambda: build({typo: 31}, source="exp.yaml"))
    assert message.startswith("exp.yaml: ")
    assert typo in message
    assert "31" in message
    assert f"did you mean '{meant}'?" in message
    path = yaml_file(f"{typo}: 31\n")
    assert f"did you mean '{meant}'?" in error_of(lambda: load(path))
    assert str(path) in error_of(lambda: load(path))


def test_a_key_like_no_other_says_where_all_of_them_are(error_of: ErrorOf) -> None:
    assert "unknown key 'zzzz' (value 1): configs/README.md lists every key" in error_of(lambda: build({"zzzz": 1}))


IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("name", "a/b", "letters, digits"),
    ("name", "", "letters, digits"),
    ("name", "two\nlines", "letters, digits"),
    ("name", 2024, "string"),
    ("name", "..", "letters, digits"),
    ("dataset", "cifar", "'cifar10'"),
    ("data-dir", 5, "path"),
    ("image-size", 0, "1"),
    ("interpolation", "nearest", "'bilinear'"),
    ("depth", "full", "'stored'"),
    ("skip-bad-images", -1, "0"),
    ("image-memory", 0, "1"),
    ("image-cache", 5, "path"),
    ("keep-patients", "perhaps", "boolean"),
    ("report-images", "perhaps", "boolean"),
    ("composites", 0, "1"),
    ("composites-test", 0, "1"),
    ("composites-test", 400, "set composites"),
    ("composite-single-share", 1.1, "1"),
    ("composite-single-share", 0.5, "set composites"),
    ("composite-canvas", 0.9, "1"),
    ("composite-canvas", 2.0, "set composites"),
    ("head-class-size", -1, "1"),
    ("imbalance-factor", 0.5, "1"),
    ("partition", "random", "'dirichlet'"),
    ("classes", "melanoma", "tuple"),
    ("labels", "several", "'many'"),
    ("labels", "many", "partition 'dirichlet'"),
    ("pixel-mean", "grey", "tuple"),
    ("pixel-std", "wide", "tuple"),
    ("sites", 0, "1"),
    ("dirichlet", 0, "0"),
    ("missing-classes", 1, "1"),
    ("missing-classes", -0.1, "0"),
    ("label-rule", "hide", "'strict'"),
    ("keep-patients", "maybe", "boolean"),
    ("min-site-size", -1, "0"),
    ("local-test", "none", "'keep-classes'"),
    ("evaluate-on", "train", "'validation'"),
    ("validation-share", 0, "0"),
    ("validation-share", 1, "1"),
    ("backbone", "resnet19", "'resnet18'"),
    ("weights", 5, "string"),
    ("norm", "layer", "'frozen'"),
    ("train-from", 5, "string"),
    ("weights", "imagenet", "torchvision:NAME"),
    ("weights-sha256", "abc", "64"),
    ("width", 0, "1"),
    ("head-bias", "maybe", "boolean"),
    ("method", "fedloge2", "fedloge"),
    ("method", "two\nlines", "fedloge"),
    ("frame", "random", "'sparse_etf'"),
    ("frame-solver", "sgd", "'projection'"),
    ("sparsity", 1, "1"),
    ("sparsity", -0.1, "0"),
    ("attention", "perhaps", "boolean"),
    ("attention-heads", 0, "1"),
    ("query-frame", "random", "'etf'"),
    ("frame-trains", "perhaps", "boolean"),
    ("suppression-weight", -1, "0"),
    ("clustering-weight", -1, "0"),
    ("multilabel-loss", "mse", "'bce'"),
    ("loss", "mse", "'focal'"),
    ("label-smoothing", 1, "1"),
    ("focal-gamma", -1, "0"),
    ("prior-temperature", -1, "0"),
    ("realign-global", "perhaps", "'unit'"),
    ("wire", "quarter", "'half'"),
    ("channels-last", "maybe", "boolean"),
    ("precision", "fp64", "'fp32'"),
    ("fedprox-mu", -0.1, "0"),
    ("ditto-lambda", -1, "0"),
    ("fedrep-head-epochs", 0, "1"),
    ("fedrep-body-epochs", 0, "1"),
    ("logit-adjustment", -1, "0"),
    ("frame-norm", 0, "0"),
    ("frame-loss", "mse", "'cross-entropy'"),
    ("frame-projection", "maybe", "boolean"),
    ("etf-temperature", 0, "0"),
    ("ratio-alpha", -1, "0"),
    ("ratio-beta", -1, "0"),
    ("ratio-images", 0, "1"),
    ("ratio-cap", 0, "0"),
    ("creff-features", 0, "1"),
    ("creff-match-steps", 0, "1"),
    ("creff-match-rate", 0, "0"),
    ("creff-retrain-epochs", 0, "1"),
    ("creff-retrain-rate", 0, "0"),
    ("mma-optimizer", "lbfgs", "'adam'"),
    ("mma-learning-rate", 0, "0"),
    ("mma-steps", 0, "1"),
    ("rounds", 0, "1"),
    ("rounds", 2.5, "integer"),
    ("rounds", "many", "integer"),
    ("rounds", "two\nlines", "integer"),
    ("rounds", None, "integer"),
    ("rounds", [3], "integer"),
    ("rounds", True, "number"),
    ("seed", False, "number"),
    ("trunk-cache", "maybe", "boolean"),
    ("trunk-precision", "fp64", "'fp16'"),
    ("trunk-memory", -1, "0"),
    ("cached-views", -1, "0"),
    ("augment", False, "word"),
    ("mixup", -0.1, "0"),
    ("cutmix", 1001, "1000"),
    ("quorum", {"a": 1}, "number"),
    ("participation", 0, "0"),
    ("participation", 1.5, "1"),
    ("local-epochs", 0, "1"),
    ("batch-size", 1, "2"),
    ("learning-rate", -1, "0"),
    ("learning-rate", float("nan"), "finite"),
    ("learning-rate", float("inf"), "finite"),
    ("schedule", "linear", "cosine"),
    ("warmup-rounds", -1, "0"),
    ("step-rounds", 0, "1"),
    ("step-factor", 0, "0"),
    ("poly-power", 0, "0"),
    ("head-rate", 0, "0"),
    ("backbone-rate", 0, "0"),
    ("optimizer", "lion", "adamw"),
    ("momentum", 1, "1"),
    ("nesterov", "maybe", "boolean"),
    ("optimizer-state", "lost", "'kept'"),
    ("adam-beta1", 1, "1"),
    ("adam-beta2", 1, "1"),
    ("clip-gradients", -1, "0"),
    ("weight-decay", -1, "0"),
    ("augment", "rotat", "did you mean 'rotate'? allowed: 'none', 'flip', 'crop-flip'"),
    ("augment", "flip+rotate:200", "rotate: degrees should be a number from 0 to 180, not '200'"),
    ("augment", "randaugment:1.5", "operations should be an integer"),
    ("augment", "flip:2", "flip takes no number"),
    ("augment", "rotate:1:2", "rotate takes at most 1 number: degrees"),
    ("augment", "none+flip", "'none' stands alone"),
    ("augment", [{"flip": 1, "rotate": 15}], "each step of a list by itself"),
    ("realign", "yes", "'paper'"),
    ("realign-bias", "half", "'keep'"),
    ("finetune-epochs", -1, "0"),
    ("finetune-learning-rate", 0, "0"),
    ("mask-classes", "test", "'train'"),
    ("seed", -1, "0"),
    ("evaluate-every", 0, "1"),
    ("ridge-lambda", 0, "0"),
    ("ridge-balance", 2, "1"),
    ("own-weight", -1, "0"),
    ("own-balance", 2, "1"),
    ("feature-range", 3, "64"),
    ("head-start", "lda", "'ridge'"),
    ("head-start-range", 3, "64"),
    ("quorum", 0, "0"),
    ("round-retries", -1, "0"),
    ("rest-after", -1, "0"),
    ("rest-rounds", 0, "1"),
    ("aggregation", "mode", "'mean'"),
    ("trimmed-share", 0.5, "0.5"),
    ("server-optimizer", "lion", "'yogi'"),
    ("server-learning-rate", 0, "0"),
    ("server-momentum", 1, "1"),
    ("server-beta1", 1, "1"),
    ("server-beta2", 1, "1"),
    ("server-tau", 0, "0"),
    ("wrong-sites", -1, "0"),
    ("clip-norm", 0, "0"),
    ("max-step", 0, "0"),
    ("max-site-images", 0, "1"),
    ("checkpoint-every", 0, "1"),
    ("checkpoints-kept", 1, "2"),
    ("resume", "perhaps", "boolean"),
    ("round-timeout", 0, "0"),
    ("device", "gpu", "'cuda'"),
    ("threads", -1, "0"),
    ("output-dir", None, "path"),
    ("run-name", "a b", "letters, digits"),
    ("run-name", "..", "letters, digits"),
    ("site-key", "two\nlines", "'npz'"),
    ("site-key", "center", "'npz'"),  # the default data set has no named sites
    ("partition", "natural", "site-key"),
]


@pytest.mark.parametrize(("key", "value", "allowed"), IMPOSSIBLE)
def test_an_impossible_value_names_key_value_and_what_is_allowed(
    key: str, value: Any, allowed: str, error_of: ErrorOf
) -> None:
    message = error_of(lambda: build({key: value}, source="exp.yaml"))
    assert message.startswith(f"exp.yaml: {key} = {value!r}")
    assert allowed in message.removeprefix(f"exp.yaml: {key} = {value!r}")


def test_the_table_of_impossible_values_is_complete() -> None:
    free = {"group-key", "site-key"}  # any text
    assert set(KEYS) - free <= {key for key, _, _ in IMPOSSIBLE}


def test_an_unknown_method_names_the_nearest(error_of: ErrorOf) -> None:
    assert "did you mean 'fedloge'?" in error_of(lambda: build({"method": "fedlodge"}))


def test_natural_sites_need_a_named_array(error_of: ErrorOf) -> None:
    natural = {"dataset": "npz", "partition": "natural"}
    assert build({**natural, "site-key": "center"}).data.site_key == "center"
    assert "site-key" in error_of(lambda: build(natural))


def test_composites_and_missing_classes_need_a_simulated_partition(error_of: ErrorOf) -> None:
    composites = {"composites": 100, "composites-test": 20, "composite-canvas": 2, "composite-single-share": 1}
    assert build(composites).data.composite_canvas == 2
    natural = {"dataset": "npz", "site-key": "center", "partition": "natural"}
    assert "composites belong to no site" in error_of(lambda: build({**natural, **composites}))
    assert "missing-classes = 0.3: with partition 'natural'" in error_of(
        lambda: build({**natural, "missing-classes": 0.3})
    )
    assert "use dirichlet" in error_of(lambda: build({"partition": "iid", "missing-classes": 0.3}))


def test_an_unknown_key_of_two_lines_gives_one(yaml_file: YamlFile, error_of: ErrorOf) -> None:
    path = yaml_file('"two\\nlines": 1\n')
    assert r"'two\nlines'" in error_of(lambda: load(path))


def test_resnet50_has_one_width(error_of: ErrorOf) -> None:
    assert build({"backbone": "resnet50", "width": 64}).model.width == 64
    assert "width = 32" in error_of(lambda: build({"backbone": "resnet50", "width": 32}))
