"""What people type: overrides of a command, and Flower's run-config."""

from pathlib import Path

import pytest
import yaml

from common.config import DEFAULT_CONFIG, Experiment, from_run_config, load, parse_overrides
from common.config.overrides import declared_defaults, not_applied
from common.errors import UserError


def test_overrides_are_read_as_yaml_in_any_form() -> None:
    words = ["rounds=200", "method=fedavg", "model.head-bias=true", "train.learning-rate=0.1", "width="]
    values = {"rounds": 200, "method": "fedavg", "head-bias": True, "learning-rate": 0.1, "width": ""}
    assert parse_overrides(words) == values
    assert parse_overrides(["fedloge.frame-norm=3"]) == {"fedloge.frame-norm": 3}


def test_bad_overrides_are_explained_all_at_once() -> None:
    with pytest.raises(UserError) as caught:
        parse_overrides(["rounds", "seed=1", "method"])
    words = "'rounds' is not of the form key=value; 'method' is not of the form key=value"
    assert str(caught.value) == f"command line: 2 mistakes: {words}"
    for twice in (["rounds=2", "seed=1", "rounds=3"], ["rounds=2", "rounds.rounds=3"]):
        with pytest.raises(UserError, match="rounds is there twice; give it once"):
            parse_overrides(twice)


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"rounds": {"rounds": 7}, "train": {"learning-rate": 0.5}, "seed": 9}))
    return str(path)


def flower(**values: object) -> Experiment:
    """What Flower hands on: its defaults, and what was typed."""
    return from_run_config(declared_defaults() | {key.replace("_", "-"): value for key, value in values.items()})


def test_a_run_config_is_the_configuration_and_what_was_typed(config: str) -> None:
    assert flower() == load(DEFAULT_CONFIG)
    assert flower(config=config) == load(config)
    typed = flower(config=config, rounds=3, overrides="momentum=.9 fedloge.frame-norm=3 classes=")
    assert typed == load(config, {"rounds": 3, "momentum": 0.9, "frame-norm": 3})
    # Flower does not say whether 60 was typed; `overrides` does
    assert flower(config=config, rounds=60).rounds.rounds == 7
    assert flower(config=config, overrides="rounds=60").rounds.rounds == 60


def test_a_default_of_flowers_that_is_not_applied_is_said(config: str) -> None:
    lines = not_applied(declared_defaults() | {"config": config}, load(config))
    assert "rounds = 7 is the configuration's; for Flower's default add overrides='rounds=60'" in lines
    assert not [line for line in lines if line.startswith(("method", "device", "output-dir"))]
    assert not_applied(declared_defaults(), load(DEFAULT_CONFIG)) == []
    assert not_applied(declared_defaults() | {"rounds": 3}, load(config, {"rounds": 3}))[0].startswith("local-epochs")


def test_a_run_configs_mistakes_are_named_with_their_place(config: str) -> None:
    for values, said in (
        ({"overrides": "lerning-rate=.1"}, "overrides: unknown key 'lerning-rate' (value 0.1): did you mean"),
        ({"overrides": "train.rounds=1"}, "overrides: train.rounds = 1: rounds stands below rounds"),
        ({"overrides": "rounds"}, "'rounds' is not of the form key=value"),
        ({"overrides": "name='a"}, "No closing quotation"),
        ({"rounds": 3, "overrides": "rounds=4"}, "rounds is given by itself and in overrides; give it once"),
        ({"rounds": 0}, "run-config: rounds = 0: should be"),
        ({"data_dir": "here"}, "run-config: data-dir = 'here': a Flower run does not know your folder"),
    ):
        with pytest.raises(UserError) as caught:
            flower(config=config, **values)
        assert said in str(caught.value), caught.value


@pytest.mark.parametrize(
    "words",
    [
        ["frame-norm=4", "fedloge.frame-norm=3"],
        ["fedloge.frame-norm=3", "frame-norm=4"],
        ["train={learning-rate: .1}", "learning-rate=.2"],
        ["fedloge={frame-norm: 2}", "fedloge.frame-norm=3"],
        ["rounds.rounds=2", "rounds=3"],
    ],
)
def test_a_key_typed_twice_in_any_form_is_refused(words: list[str]) -> None:
    with pytest.raises(UserError, match="is there twice; give it once"):
        parse_overrides(words)


def test_a_section_may_be_typed_as_one_word() -> None:
    assert parse_overrides(["train={momentum: .3}", "seed=2"]) == {"momentum": 0.3, "seed": 2}
    assert parse_overrides(["sites={partition: iid}", "sites=4"]) == {"partition": "iid", "sites": 4}
    assert parse_overrides(["fedloge={frame-norm: 2}", "fedloge_ml.frame-norm=3"]) == {
        "fedloge.frame-norm": 2,
        "fedloge_ml.frame-norm": 3,
    }
