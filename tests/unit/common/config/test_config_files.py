"""Where an experiment's file and folders are looked for, and files that are none."""

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import pytest

from common.config import APP_ROOT, build, find_config, load

ErrorOf = Callable[[Callable[[], object]], str]
YamlFile = Callable[[str], Path]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("- a\n- b\n", "found list"),
        ("just words\n", "found str"),
        ("3\n", "found int"),
        ("a: [1,\nb: 2\n", "not a YAML file"),
        ("a: 1\n  b: 2\n", "not a YAML file"),
        ("\tseed: 1\n", "not a YAML file"),
        ("? [a, b]\n: 1\n", "not a YAML file"),
        ("seed: 2024-13-45\n", "not a YAML file"),  # YAML takes it for a date
        ("[" * 3000, "not a YAML file"),
        ("seed: !!python/object/apply:os.getcwd []\n", "not a YAML file"),
        ("rounds: 3\nseed: !!int ''\n", "not a YAML file: line 2: '' is no int; leave out the !!int before it"),
        ("seed: !!float\n", "line 1: '' is no float"),
        ("head-bias: !!bool maybe\n", "line 1: 'maybe' is no bool"),
        ("seed: !!timestamp now\n", "line 1: 'now' is no timestamp"),
        ("tuned: {fedavg: {seed: !!timestamp now}}\n", "line 1: 'now' is no timestamp"),
        ("tuned: !!map fedavg\n", "not a YAML file: expected a mapping node, but found scalar"),
        ("tuned: !!map [1, 2]\n", "not a YAML file: expected a mapping node, but found sequence"),
        ("tuned: !!set [fedavg]\n", "not a YAML file: expected a mapping node, but found sequence"),
        ("? !!set {a}\n: 1\n", "not a YAML file: while constructing a mapping"),
        ("<<: [1]\n", "not a YAML file: while constructing a mapping"),
        ('name: "\\UFFFFFFFF"\n', "not a YAML file: it has a character"),
    ],
)
def test_a_file_that_is_no_flat_mapping(text: str, what: str, yaml_file: YamlFile, error_of: ErrorOf) -> None:
    path = yaml_file(text)
    message = error_of(lambda: load(path))
    assert message.startswith(f"{path}: ")
    assert what in message


def test_a_file_that_is_no_text(tmp_path: Path, error_of: ErrorOf) -> None:
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00rounds")
    assert error_of(lambda: load(path)).startswith(f"{path}: not a YAML file")


def test_a_missing_file_names_the_nearest_shipped_one(tmp_path: Path, error_of: ErrorOf) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "only_here.yaml").touch()
    message = error_of(lambda: load("configs/only_hree.yaml", base=tmp_path))
    assert "no configuration file 'configs/only_hree.yaml'" in message
    assert "did you mean 'configs/only_here.yaml'?" in message
    assert "no configuration file" in error_of(lambda: load(tmp_path))  # a folder is none
    assert "no configuration file" in error_of(lambda: load(""))


def test_the_users_folder_comes_before_the_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    mine = tmp_path / "common" / "wire.py"  # beside the packages there is a file of this name, too
    mine.touch()
    assert find_config("common/wire.py", tmp_path) == mine.resolve()
    assert find_config("common/wire.py", None) == APP_ROOT / "common" / "wire.py"


@pytest.mark.parametrize("key", ["data-dir", "output-dir"])
def test_relative_paths(key: str, tmp_path: Path, yaml_file: YamlFile, error_of: ErrorOf) -> None:
    attribute = {"data-dir": "data.data_dir", "output-dir": "run.output_dir"}[key]
    elsewhere = tmp_path / "elsewhere"
    path = yaml_file(f"{key}: ../images\n")  # in a file: from the file's folder, whatever the base
    for base in (None, elsewhere):
        assert attrgetter(attribute)(load(path, base=base)) == (tmp_path / "images").resolve()

    plain = yaml_file("")  # in an override: from the user's folder
    assert attrgetter(attribute)(load(plain, {key: "images"}, base=elsewhere)) == elsewhere / "images"
    message = error_of(lambda: load(plain, {key: "images"}, base=None))
    assert f"{key} = 'images'" in message
    assert "absolute" in message

    assert attrgetter(attribute)(load(plain, {key: "/images"})) == Path("/images")
    assert attrgetter(attribute)(load(plain, {key: "~/images"})) == (Path.home() / "images").resolve()


def test_folders_default_to_the_environment_then_to_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDNC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("FEDNC_RUNS", str(tmp_path / "runs"))
    assert build({}).data.root == tmp_path / "data"
    assert build({}).run.output_dir == tmp_path / "runs"
    assert build({"data-dir": "/images"}).data.root == Path("/images")
    monkeypatch.setenv("FEDNC_DATA", "")
    monkeypatch.delenv("FEDNC_RUNS")
    assert build({}).data.root.is_relative_to(Path.home())
    assert build({}).run.output_dir.is_relative_to(Path.home())


@pytest.mark.parametrize("bad", ["~nobody-of-this-name/images", "a\0b"])
def test_text_that_is_no_path(bad: str, yaml_file: YamlFile, error_of: ErrorOf) -> None:
    path = yaml_file("")
    message = error_of(lambda: load(path, {"data-dir": bad}, base=path.parent))
    assert message.startswith(f"command line: data-dir = {bad!r}: not a path")
    assert repr(bad) in error_of(lambda: load(bad))


def test_a_relative_folder_in_the_environment(monkeypatch: pytest.MonkeyPatch, error_of: ErrorOf) -> None:
    monkeypatch.setenv("FEDNC_RUNS", "runs")
    assert "FEDNC_RUNS = 'runs'" in error_of(lambda: build({}))
    monkeypatch.setenv("FEDNC_RUNS", "~/runs")
    assert build({}).run.output_dir == Path.home() / "runs"


def test_an_empty_value_in_a_file_is_not_given(yaml_file: YamlFile) -> None:
    assert load(yaml_file("data-dir: ''\nname: ''\n")).data.data_dir is None
    tuned = "width: 7\ntuned: {fedavg: {width: '', batch-size: 9}}\n"
    experiment = load(yaml_file(tuned), {"method": "fedavg"})
    assert (experiment.model.width, experiment.train.batch_size) == (7, 9)


@pytest.mark.parametrize(("stem", "name"), [("my exp", "my-exp"), (".hidden", "hidden"), ("--", "experiment")])
def test_a_files_name_becomes_a_valid_one(stem: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{stem}.yaml"
    path.write_text("rounds: 3\n", encoding="utf-8")
    assert load(path).name == name


def test_the_papers_cells_are_all_there() -> None:
    cells = [load(path) for path in sorted((APP_ROOT / "configs" / "paper").glob("*.yaml"))]
    found = {(cell.data.dataset, cell.data.imbalance_factor, cell.sites.dirichlet) for cell in cells}
    assert found == {
        (data, factor, alpha) for data in ("cifar10", "cifar100") for factor in (50, 100) for alpha in (0.5, 1)
    }
    assert {(cell.sites.sites, cell.rounds.rounds, cell.train.local_epochs, cell.train.augment) for cell in cells} == {
        (40, 500, 5, "crop-flip")
    }
    assert {(cell.data.dataset, cell.model.backbone) for cell in cells} == {
        ("cifar10", "resnet18"),
        ("cifar100", "resnet34"),
    }
