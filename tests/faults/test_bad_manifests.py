"""Lists of images that are strange, damaged or lead out of their folder: each ends in one line naming the row."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from faulty import PICTURES, damage, mistake, must_fail
from hypothesis import given, settings
from hypothesis import strategies as st

from common.config import Experiment, build
from common.data import load_dataset

Damage = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a manifest's folder with three images, and one beside the folder."""
    folder = tmp_path_factory.mktemp("data") / "site"
    folder.mkdir()
    for path in (folder / "a.png", folder / "b.png", folder / "c.png", folder.parent / "outside.png"):
        path.write_bytes(PICTURES["PNG"])
    (folder / "link.png").symlink_to(folder.parent / "outside.png")
    (folder / "up").symlink_to(folder.parent)
    (folder / "inner.png").symlink_to(folder / "a.png")
    (folder / "loop.png").symlink_to(folder / "loop.png")
    return folder


def manifest_of(folder: Path) -> Experiment:
    return build({"dataset": "manifest", "data-dir": folder})


def write(folder: Path, *rows: str) -> None:
    (folder / "manifest.csv").write_bytes("\n".join(["image,label,split", *rows]).encode("utf-8", "surrogatepass"))


GOOD_ROWS = ("a.png,x,train", "b.png,y,train", "c.png,x,test")


@pytest.mark.parametrize(
    "name",
    [
        "../outside.png", "./../outside.png", "up/outside.png", "up/../../outside.png", "link.png", "loop.png", "up",
        "/etc/hostname", "//etc/hostname", "file:///etc/hostname", "~/a.png", "C:\\a.png", "..", ".", "", "-", "a.png/",
        "a\0.png", "x" * 300, "y/" * 3000, "missing.png", "\udcff.png",
    ],
)  # fmt: skip
def test_a_row_never_leads_out_of_the_folder(images: Path, name: str) -> None:
    write(images, *GOOD_ROWS, f'"{name}",x,train')
    must_fail(lambda: load_dataset(manifest_of(images)), "manifest.csv:5")


def test_links_within_the_folder_are_files_like_others(images: Path) -> None:
    write(images, *GOOD_ROWS, "inner.png,y,test")
    assert len(load_dataset(manifest_of(images)).test) == 2


def test_published_lists_do_not_lead_out_of_the_folder_either(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "out.png").write_bytes(PICTURES["PNG"])
    for part in ("train", "test"):
        (tmp_path / "data" / f"ImageNet_LT_{part}.txt").write_text("../out.png 0\n")
    experiment = build({"dataset": "imagenet-lt", "data-dir": tmp_path / "data", "image-size": 8})
    assert "leads out" in must_fail(lambda: load_dataset(experiment), "ImageNet_LT_train.txt:1")


FIELDS = st.one_of(
    st.sampled_from(["a.png", "b.png", "c.png", "x", "y", "train", "test", '"', '""', '"a\nb"', "\0", "\r", "\x1b[2J"]),
    st.text(max_size=12),
    st.sampled_from(["z" * 200_000, '"' + "q" * 140_000 + '"', "=1+1", "\ufeff", "\u2028"]),
)  # fmt: skip


@settings(max_examples=200)
@given(
    rows=st.lists(st.lists(FIELDS, max_size=4).map(",".join), max_size=4),
    header=st.sampled_from(["image,label,split", "image,labels,split", "image,x,y", "image,label,patient,site"])
    | st.lists(FIELDS, max_size=4).map(",".join),
    keep=st.booleans(),
    how=st.sampled_from(["utf-8", "utf-16", "latin-1", "utf-8-sig"]),
)
def test_any_manifest(images: Path, rows: list[str], header: str, keep: bool, how: str) -> None:
    content = "\n".join([header, *(GOOD_ROWS if keep else ()), *rows]).encode(how, "replace")
    (images / "manifest.csv").write_bytes(content)
    mistake(lambda: load_dataset(manifest_of(images)), "manifest.csv")


@settings(max_examples=60)
@given(change=damage())
def test_a_damaged_manifest(images: Path, change: Damage) -> None:
    write(images, *GOOD_ROWS)
    path = images / "manifest.csv"
    path.write_bytes(change(path.read_bytes()))
    mistake(lambda: load_dataset(manifest_of(images)), "manifest.csv")


@settings(max_examples=30)
@given(name=st.text(max_size=20), image=st.text(max_size=20) | st.just("../../outside.png"))
def test_any_annotation_file(tmp_path_factory: pytest.TempPathFactory, name: str, image: str) -> None:
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    for part in ("train2017", "val2017"):
        content = {
            "categories": [{"id": 1, "name": name}],
            "images": [{"id": 1, "file_name": image}],
            "annotations": [{"image_id": 1, "category_id": 1}],
        }
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    must_fail(lambda: load_dataset(build({"dataset": "coco2017", "data-dir": root, "image-size": 8})))
