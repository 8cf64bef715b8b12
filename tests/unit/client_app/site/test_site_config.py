"""A site's file: paths, defaults, and one line about each mistake."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client_app.site.config import Policy, SiteConfig, load_site_config
from client_app.site.policy import allowed_class_metrics, allowed_metrics, check_class_sizes, check_policy
from client_app.site.site import told_sizes
from common.config import APP_ROOT, Experiment, build
from common.data import Dataset, Federation
from common.data.images.source import ArrayImages
from common.errors import MistakesError, RefusalError
from common.methods import METHODS
from common.wire import POLICY_METRICS

ErrorOf = Callable[[Callable[[], object]], str]


def test_paths_start_from_the_files_folder(site_file: Callable[..., Path], tmp_path: Path) -> None:
    config = load_site_config(site_file(cache="c"))
    assert (config.name, config.data) == ("west", tmp_path / "data")
    assert (config.state_dir, config.cache) == (tmp_path / "state", tmp_path / "c")
    assert load_site_config(site_file(state_dir="/elsewhere")).cache == Path("/elsewhere/cache")
    assert (config.test_share, config.class_map, config.device) == (0.2, {}, "auto")


def test_by_default_a_site_allows_every_method_and_no_extras(site_file: Callable[..., Path]) -> None:
    policy = load_site_config(site_file()).policy
    assert set(policy.methods) == set(METHODS)
    assert (policy.metrics, policy.min_class_size) == (POLICY_METRICS, 1)
    assert (policy.extras, policy.max_epochs, policy.min_images, policy.max_rounds) == ((), 20, 1, None)
    assert policy.max_learning_rate is None


def test_the_file_of_a_kit_is_read_as_it_is_shipped(tmp_path: Path) -> None:
    text = (APP_ROOT / "docker" / "site" / "site.yaml").read_text(encoding="utf-8")
    words = set(re.findall(r"^ *(?:# )?([a-z-]+):(?= |$)", text, re.MULTILINE))
    fields = (*SiteConfig.model_fields, *Policy.model_fields)
    assert words == {name.replace("_", "-") for name in fields}  # every key is shown, and no other
    (tmp_path / "manifest.csv").write_text("image,label\n")
    path = tmp_path / "site.yaml"
    path.write_text(text.replace("{{site}}", "hospital-1").replace("/data/", f"{tmp_path}/"))
    config = load_site_config(path)
    assert (config.name, config.class_map) == ("hospital-1", {})
    assert (config.state_dir, config.cache) == (Path("/state/models"), Path("/state/cache"))
    assert (config.policy.extras, set(config.policy.methods)) == ((), set(METHODS))
    path.write_text(path.read_text().replace("# methods:", "methods:"))
    assert load_site_config(path).policy.methods == ("fedavg", "fedloge")
    path.write_text(path.read_text().replace("# metrics:", "metrics:").replace("# max-rounds:", "max-rounds:"))
    assert (load_site_config(path).policy.metrics, load_site_config(path).policy.max_rounds) == (
        ("loss", "hits", "balanced_accuracy"),
        500,
    )


def test_numbers_can_be_names_of_classes(site_file: Callable[..., Path]) -> None:
    assert load_site_config(site_file(class_map={0: "cat", "1": 7})).class_map == {"0": "cat", "1": "7"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dta": "x"}, "unknown key 'dta' (value 'x'): did you mean 'data'?"),
        ({"data": "nothing"}, "there is no such file or folder"),
        ({"name": "a/b"}, "name = 'a/b': use letters, digits, blanks"),
        ({"name": "west\u202e"}, "does not show (RIGHT-TO-LEFT OVERRIDE)"),
        ({"class_map": {"x": "do\u200bg"}}, "does not show (ZERO WIDTH SPACE)"),
        ({"name": None}, "name = None: "),
        ({"device": "gpu"}, "device = 'gpu': "),
        ({"test_share": 1}, "test-share = 1: "),
        ({"test_share": True}, "test-share = True: "),
        ({"class_map": ["a"]}, "class-map = ['a']: should be a mapping"),
        ({"class_map": {False: "dog"}}, "should map names to names; put quotes around False"),
        ({"policy": 3}, "policy = 3: should be 'key: value' lines"),
        ({"policy": {"max-epoch": 3}}, "policy: unknown key 'max-epoch' (value 3): did you mean 'max-epochs'?"),
        ({"policy": {"max-epochs": 0}}, "policy: max-epochs = 0: "),
        ({"policy": {"min-images": True}}, "policy: min-images = True: "),
        ({"policy": {"methods": "fedavg"}}, "policy: methods = 'fedavg': should be a list of words"),
        ({"policy": {"methods": ["fedlog"]}}, "'fedlog': did you mean 'fedloge'?"),
        ({"policy": {"extras": ["counts"]}}, "allowed: class_counts, class_gradients"),
        ({"policy": {"metrics": ["hit"]}}, "'hit': did you mean 'hits'?"),
        ({"policy": {"max-learning-rate": 0}}, "policy: max-learning-rate = 0: "),
        ({"policy": {"min-class-size": 0}}, "policy: min-class-size = 0: "),
    ],
)
def test_mistakes_are_one_line_with_file_and_key(
    site_file: Callable[..., Path], keys: dict[str, Any], message: str, error_of: ErrorOf
) -> None:
    path = site_file(**keys)
    found = error_of(lambda: load_site_config(path))
    assert found.startswith(str(path)) and message in found


def test_all_mistakes_of_a_sites_file_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(
        "nam: west\nstate-dir: ~nobody-of-this-name/x\ntest-share: 2\nclass-map: {no: dog, 3: yes}\n"
        "policy: {methods: [fedlog, fedavgg], max-epoch: 3, min-images: 0}\n",
        encoding="utf-8",
    )
    with pytest.raises(MistakesError) as caught:
        load_site_config(path)
    found = {said.split(":")[0].split(" (")[0]: where for where, said in caught.value.found}
    assert found == {
        "unknown key 'nam'": str(path),
        "no key 'name'": str(path),
        "no key 'data'": str(path),
        "state-dir = '~nobody-of-this-name/x'": str(path),
        "test-share = 2": str(path),
        "class-map = {False": str(path),
        "unknown key 'max-epoch'": f"{path}: policy",
        "methods = ['fedlog', 'fedavgg']": f"{path}: policy",
        "min-images = 0": f"{path}: policy",
    }
    assert "put quotes around False, True" in str(caught.value)
    assert "'fedlog': did you mean 'fedloge'?, 'fedavgg': did you mean 'fedavg'?" in str(caught.value)


def test_a_missing_key_or_file(tmp_path: Path, error_of: ErrorOf) -> None:
    path = tmp_path / "site.yaml"
    assert "cannot be read" in error_of(lambda: load_site_config(path))
    path.write_text("name: x\n")
    assert "no key 'data': a manifest (CSV)" in error_of(lambda: load_site_config(path))
    path.write_text("- x\n")
    assert "expected 'key: value' lines" in error_of(lambda: load_site_config(path))


@pytest.mark.parametrize(
    ("policy", "changes", "message"),
    [
        ({"methods": ["fedloge"]}, {}, "method = 'fedavg': its policy's methods are fedloge"),
        ({"methods": []}, {}, "its policy's methods are none"),
        ({}, {"method": "creff"}, "method = 'creff' sends class_gradients beside the weights: its policy's extras"),
        ({"extras": ["class_counts"]}, {"method": "creff"}, "extras are class_counts"),
        ({"max-epochs": 4}, {}, "5 epochs a round: its policy's max-epochs is 4"),
        ({}, {"method": "fedrep", "fedrep_head_epochs": 20}, "21 epochs a round"),
        ({}, {"finetune_epochs": 21}, "21 epochs of fine-tuning: its policy's max-epochs is 20"),
        ({"max-rounds": 10}, {"rounds": 11}, "rounds = 11: its policy's max-rounds is 10"),
        ({"max-learning-rate": 0.02}, {}, "a learning rate of 0.03: its policy's max-learning-rate is 0.02"),
        ({"max-learning-rate": 0.03}, {"head_rate": 10}, "a learning rate of 0.3: its"),
        (
            {"max-learning-rate": 0.03},
            {"finetune_epochs": 1, "finetune_learning_rate": 0.1},
            "a learning rate of fine-tuning of 0.1: its",
        ),
    ],
)
def test_a_site_refuses_what_its_policy_forbids(
    policy: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    deployed: Callable[..., Experiment],
    error_of: ErrorOf,
) -> None:
    experiment = deployed(**changes)
    row = METHODS[experiment.method]
    found = error_of(lambda: check_policy(Policy.model_validate(policy), experiment, row))
    assert found.startswith("this site refuses ") and message in found


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({}, {}),
        ({"extras": ["class_counts", "class_gradients"]}, {}),
        ({"extras": ["class_metrics"]}, {"final": [0.5, 1.0, None], "finetuned": [0.0, 1.0, None]}),
        (
            {"extras": ["class_metrics"], "min-class-size": 2},
            {"final": [0.5, None, None], "finetuned": [0.0, None, None]},
        ),
        ({"extras": ["class_metrics"], "metrics": ["loss"]}, {}),
    ],
)
def test_metrics_by_class_stay_unless_a_policy_names_them(
    policy: dict[str, Any], told: dict[str, list[float | None]]
) -> None:
    rule = Policy.model_validate(policy)
    metrics = allowed_metrics(rule, {"hits-final": 1, "hits-finetuned": 1, "num-test": 3})
    by_class = {"final": np.array([0.5, 1.0, np.nan]), "finetuned": np.array([0.0, 1.0, np.nan])}
    found = allowed_class_metrics(rule, by_class, np.array([2, 1, 0]), metrics)
    plain = {name: [None if np.isnan(v) else v for v in values] for name, values in found.items()}
    assert plain == told


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_site_that_allows_all_extras_takes_part_in_every_method(
    method: str, deployed: Callable[..., Experiment]
) -> None:
    allowed = {
        "extras": ["class_counts", "class_gradients", "class_sums", "feature_sums"],
        "max-rounds": 500,
        "max-learning-rate": 0.03,
    }
    policy = Policy.model_validate(allowed)
    check_policy(policy, deployed(method=method, finetune_epochs=20), METHODS[method])


@pytest.mark.parametrize(("word", "sums"), [("ridge", "feature_sums"), ("ncm", "class_sums")])
def test_sums_before_the_first_round_are_extras_as_well(
    word: str, sums: str, deployed: Callable[..., Experiment]
) -> None:
    experiment = deployed(method="fedavg", head_start=word)
    with pytest.raises(RefusalError, match=f"head-start = '{word}' sends {sums} beside the weights"):
        check_policy(Policy(), experiment, METHODS["fedavg"])
    policy = Policy.model_validate({"extras": [sums], "min-class-size": 5})
    check_policy(policy, experiment, METHODS["fedavg"])
    with pytest.raises(RefusalError, match=f"to send {sums}: a class has fewer than its policy's min-class-size 5"):
        check_class_sizes(policy, experiment, [9, 4])


def test_few_images_without_a_label_are_few_too() -> None:
    """Of several labels the sums of the images without one are sent as well."""
    labels = np.array([[True, False], [True, True], [True, False], [False, True]])
    images = ArrayImages(np.zeros((4, 1, 2, 2), np.uint8), labels)
    dataset = Dataset("own", ("a", "b"), images, images, (0.5,), (0.5,))
    federation = Federation(dataset, ("own",), (np.arange(4),), (np.arange(0),))
    ridge = build({"method": "fedridge"})
    assert told_sizes(federation, ridge) == [3, 2, 1, 2]
    hidden = Federation(dataset, ("own",), (np.arange(4),), (np.arange(0),), np.array([[False, True]]))
    assert told_sizes(hidden, ridge) == [2, 2]
    policy = Policy.model_validate({"min-class-size": 2, "extras": ["feature_sums"]})
    with pytest.raises(RefusalError, match="min-class-size 2"):
        check_class_sizes(policy, ridge, told_sizes(federation, ridge))
