"""A real site: its configuration, its policy, its images."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from client_app.policy import check_policy
from client_app.site_config import Policy, load_site_config
from client_app.site_data import load_site_data
from common.config import Experiment, build
from common.errors import UserError
from common.methods import METHODS


def write(folder: Path, **values: Any) -> Path:
    path = folder / "site.yaml"
    good = {"name": "hospital-a", "data": "images", "state-dir": "state"}
    path.write_text(yaml.safe_dump({k.replace("_", "-"): v for k, v in (good | values).items() if v is not None}))
    return path


def experiment(**changes: Any) -> Experiment:
    values = {"partition": "deployed", "classes": ["nevus", "melanoma", "other"]}
    return build(values | {key.replace("_", "-"): value for key, value in changes.items()})


def write_images(root: Path, *classes: str, mode: str = "L") -> None:
    for part in ("train", "test"):
        for shade, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            Image.new(mode, (8, 8), 10 * shade if mode == "L" else (10 * shade,) * 3).save(root / part / name / "x.png")


def test_paths_start_from_the_files_folder(tmp_path: Path) -> None:
    config = load_site_config(write(tmp_path))
    assert config.data == tmp_path / "images" and config.state_dir == tmp_path / "state"
    assert config.policy.methods == tuple(METHODS) and config.policy.extras == ()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"dta": "x"}, "unknown key 'dta': did you mean 'data'?"),
        ({"name": "a/b"}, "name = 'a/b'"),
        ({"data": None}, "data"),
        ({"policy": {"max-epoch": 3}}, "did you mean 'max-epochs'?"),
        ({"policy": {"max-epochs": 0}}, "policy.max-epochs = 0"),
        ({"policy": {"methods": ["fedlog"]}}, "policy.methods: 'fedlog': did you mean 'fedloge'?"),
        ({"policy": {"extras": ["images"]}}, "policy.extras: 'images'"),
        ({"class-map": "nevus"}, "class-map = 'nevus'"),
    ],
)
def test_mistakes_are_one_line_that_names_them(tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        load_site_config(write(tmp_path, **values))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "&a [*a]"])
def test_what_is_no_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "site.yaml").write_text(content)
    with pytest.raises(UserError, match=r"site\.yaml: "):
        load_site_config(tmp_path / "site.yaml")
    with pytest.raises(UserError, match="cannot read"):
        load_site_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("policy", "values", "words"),
    [
        ({"methods": ("fedavg",)}, {"method": "fedloge"}, "does not allow method 'fedloge'; allowed: fedavg"),
        ({}, {"method": "creff"}, "does not allow CReFF to send class_gradients"),
        ({"max_epochs": 4}, {"local_epochs": 5}, "local-epochs = 5: .* max-epochs = 4"),
        ({"max_epochs": 4}, {"local_epochs": 1, "finetune_epochs": 9}, "finetune-epochs = 9"),
    ],
)
def test_a_policy_says_what_it_refuses(policy: dict[str, Any], values: dict[str, Any], words: str) -> None:
    asked = experiment(**values)
    with pytest.raises(UserError, match=words):
        check_policy(Policy(**policy), asked, METHODS[asked.method])
    check_policy(Policy(extras=("class_gradients",)), asked, METHODS[asked.method])


def test_local_names_become_the_agreed_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "Melanom", "naevus")
    config = load_site_config(write(tmp_path, class_map={"Melanom": "melanoma", "naevus": "nevus"}))
    dataset = load_site_data(config, experiment())
    assert dataset.classes == ("nevus", "melanoma", "other")
    shade_of = {int(y): int(dataset.train.batch(np.array([i]))[0, 0, 0, 0]) for i, y in enumerate(dataset.train.labels)}
    assert shade_of == {1: 0, 0: 10}


def test_unknown_classes_and_other_channels_are_named(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "melanom", "nevus")
    config = load_site_config(write(tmp_path))
    with pytest.raises(UserError, match=r"class 'melanom' .* did you mean 'melanoma'\?"):
        load_site_data(config, experiment())
    mapped = load_site_config(write(tmp_path, class_map={"melanom": "melanoma"}))
    with pytest.raises(UserError, match=r"1 channel\(s\), the experiment has 3"):
        load_site_data(mapped, experiment(pixel_mean=[0.5, 0.5, 0.5]))


def test_a_manifest_and_an_archive_are_told_by_their_names(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "nevus", "other")
    lines = ["image,label,split"] + [f"{p}/{c}/x.png,{c},{p}" for p in ("train", "test") for c in ("nevus", "other")]
    (tmp_path / "images" / "manifest.csv").write_text("\n".join(lines))
    for data in ("images", "images/manifest.csv"):
        dataset = load_site_data(load_site_config(write(tmp_path, data=data)), experiment())
        assert sorted(np.asarray(dataset.test.labels).tolist()) == [0, 2]
    pixels = np.zeros((4, 8, 8), np.uint8)
    names = np.array(["other", "nevus"])
    np.savez(tmp_path / "x.npz", x_train=pixels, y_train=np.arange(4) % 2, x_test=pixels, y_test=np.arange(4) % 2,
             class_names=names)  # fmt: skip
    dataset = load_site_data(load_site_config(write(tmp_path, data="x.npz")), experiment())
    assert np.asarray(dataset.train.labels).tolist() == [2, 0, 2, 0]
