"""Which files below a folder are images, whatever they are called, and which are skipped with a reason."""

import gzip
import io
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import load_dataset
from common.data.images.file_kinds import PILLOW, file_kind
from common.data.sources.discovery import Skipped, find_classes, find_images, has_sides, skipped_notes
from common.errors import UserError

ENDINGS = {"BMP": "bmp", "GIF": "gif", "JPEG": "jfif", "JPEG2000": "jp2", "PNG": "png", "PPM": "ppm", "TIFF": "tif"}


def encoded(form: str, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert(mode).save(stream, form)
    return stream.getvalue()


def save(path: Path, form: str = "PNG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(form))
    return path


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(folder).images]


@pytest.mark.parametrize("form", PILLOW)
def test_every_format_is_known_by_its_content(form: str, tmp_path: Path) -> None:
    for mode in ("1", "L", "RGB"):
        if not (form == "JPEG" and mode == "1") and not (form == "JPEG2000" and mode == "1"):
            assert file_kind(encoded(form, mode)) == form == Image.open(io.BytesIO(encoded(form, mode))).format
    save(tmp_path / "IM000001", form)
    save(tmp_path / f"a.{ENDINGS.get(form, 'webp')}", form)
    save(tmp_path / "b.txt", form)
    assert names(tmp_path) == ["IM000001", f"a.{ENDINGS.get(form, 'webp')}", "b.txt"]


def test_pillows_other_kinds_of_its_formats() -> None:
    for mode, form in (("L", "PPM"), ("I", "PPM"), ("CMYK", "JPEG"), ("P", "GIF"), ("F", "TIFF")):
        assert file_kind(encoded(form, mode)) == form
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, "JPEG2000", no_jp2=True)  # a bare stream
    assert file_kind(stream.getvalue()) == "JPEG2000"


def test_pydicoms_files_are_dicom_with_and_without_preamble() -> None:
    pytest.importorskip("pydicom", reason="needs pydicom: pip install 'fednc[medical]'")
    from pydicom.data import get_testdata_file

    bare = ("ExplVR_LitEndNoMeta.dcm", "ExplVR_BigEndNoMeta.dcm")
    for name in ("CT_small.dcm", "MR_small.dcm", "JPEG2000.dcm", "rtplan.dcm", *bare):
        path = get_testdata_file(name, download=False)
        assert isinstance(path, str) and file_kind(Path(path).read_bytes()[:4096]) == "DICOM", name


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\x5c\x01\0\0" + bytes(340) + b"n+1\0", "NIfTI"),
        (gzip.compress(b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(99), mtime=0), "NIfTI"),
        (gzip.compress(b"a text", mtime=0), "gzip"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"\0\0\0\x18ftypavif", "AVIF"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"%PDF-1.7", "PDF"),
        (b"PK\x03\x04", "ZIP"),
        (b"<?xml version='1.0'?>\n<!-- x --><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!---->" * 500, ""),  # in no time
        (b"BMI,age\n22,50\n", ""),
        (b"P1,P2\n3,4\n", ""),
        (b"P3 was measured\n", ""),
        (b"image,label\n", ""),
        (b"", ""),
        (b"\x08\0\x05\0 some text", ""),
        (b"\x02\0\0\0UL\x04\0", ""),
    ],
)
def test_what_is_no_image(content: bytes, kind: str) -> None:
    assert file_kind(content) == kind


def test_hidden_entries_at_any_depth_are_skipped_and_counted(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "1")
    for hidden in ("a/.ipynb_checkpoints/1-checkpoint.png", "a/b/._1.png", ".git/x.png", "__MACOSX/a/1.png"):
        save(tmp_path / hidden)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "a" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "a" / "notes.txt").write_text("no image")
    found = find_images(tmp_path)
    assert names(tmp_path) == ["a/b/1"]
    assert skipped_notes(found.skipped) == (
        "7 files skipped: 6 hidden (.git/x.png, __MACOSX/a/1.png, a/.DS_Store, …), 1 no image (a/notes.txt)",
    )
    assert skipped_notes([]) == ()
    assert skipped_notes([Skipped("x", "hidden")]) == ("1 file skipped: 1 hidden (x)",)


def test_a_file_that_its_ending_calls_an_image_is_one_to_be_named_when_it_is_read(tmp_path: Path) -> None:
    for name in ("empty.png", "scan.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftypheic")  # an image, though not one that is read
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.4")
    assert names(tmp_path) == ["empty.png", "photo", "scan.nii.gz"]


def test_a_catalogue_of_dicom_files_is_no_image(tmp_path: Path) -> None:
    bundled = pytest.importorskip("pydicom.data").get_testdata_file("dicomdirtests/DICOMDIR")
    (tmp_path / "DICOMDIR").write_bytes(Path(bundled).read_bytes())
    found = find_images(tmp_path)
    assert found.images == () and skipped_notes(found.skipped) == ("1 file skipped: 1 DICOMDIR (DICOMDIR)",)


@pytest.mark.parametrize(
    "sides", [("Train", "Test"), ("training", "testing", "validation"), ("train", "val"), ("test",)]
)
def test_folders_that_are_called_like_sides_are_no_classes(sides: tuple[str, ...], tmp_path: Path) -> None:
    for side in sides:
        for label in ("cat", "dog"):
            save(tmp_path / side / label / "1.png")
    with pytest.raises(UserError, match=rf"'{sides[-1] if len(sides) == 1 else sides[0]}'.*call the sides 'train' and"):
        has_sides(tmp_path)
    save(tmp_path / "train" / "cat" / "1.png")
    save(tmp_path / "test" / "cat" / "1.png")
    assert has_sides(tmp_path) and not has_sides(tmp_path / "train") and not has_sides(tmp_path / "nothing")


def test_folders_whose_names_differ_in_unicodes_form_or_in_blanks_are_one_class(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for number, name in enumerate((composed, apart, f"{composed} ")):
        save(tmp_path / name / f"{number}.png")
    found = find_classes(tmp_path)
    assert list(found.classes) == [composed] and len(found.classes[composed]) == 3


def test_names_that_are_no_text_are_refused_all_at_once(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "cat" / f"{number}.png")
        save(tmp_path / "dog" / os.fsdecode(b"%d\xff.png" % number))
    with pytest.raises(UserError, match=r"4 files with a name that is not UTF-8: 'dog/0\\udcff\.png'.*; rename"):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", save(tmp_path / "elsewhere" / "x.png").parent
    save(data / "pool" / "cat" / "1.png")
    save(data / "train" / "dog" / "2.png")
    (data / "train" / "cat").symlink_to(data / "pool" / "cat")  # a class
    (data / "train" / "dog" / "more").symlink_to("../../pool")  # a folder in a class
    (data / "train" / "dog" / "3.png").symlink_to(data / "pool" / "cat" / "1.png")
    (data / "train" / "fox").symlink_to(outside)
    (data / "train" / "dog" / "4.png").symlink_to(outside / "x.png")
    (data / "train" / "dog" / "up").symlink_to("..")  # all classes, again and again
    (data / "train" / "dog" / "gone").symlink_to("nowhere")
    (data / "train" / "dog" / "loop").symlink_to("loop")
    (data / "train" / "dog" / "again").symlink_to("2.png")
    save(data / "train" / "5.png")
    found = find_classes(data / "train", data)
    shown = {name: [path.relative_to(data).as_posix() for path in paths] for name, paths in found.classes.items()}
    assert shown == {"cat": ["train/cat/1.png"], "dog": ["train/dog/2.png", "train/dog/3.png"]}
    reasons = {one.name: one.reason for one in found.skipped}
    assert reasons == {
        "train/5.png": "in no class's folder",
        "train/dog/4.png": "links out of the folder",
        "train/dog/again": "links to what is there already",
        "train/dog/gone": "links to nothing",
        "train/dog/loop": "links to nothing",
        "train/dog/more/cat/1.png": "links to what is there already",
        "train/dog/up": "links to what is there already",
        "train/fox": "links out of the folder",
    }


def test_image_folder_reads_by_content_and_says_what_it_skipped(tmp_path: Path) -> None:
    for name in ("train/cat/IM1", "train/dog/x/IM2", "test/cat/3.ppm", "test/dog/4.jfif"):
        save(tmp_path / name, {"ppm": "PPM", "jfif": "JPEG"}.get(name.rsplit(".")[-1], "PNG"))
    save(tmp_path / "train/cat/.ipynb_checkpoints/IM1-checkpoint.png")
    save(tmp_path / "train/.cache/1.png")
    (tmp_path / "test/cat/notes.txt").write_text("no image")
    save(tmp_path / "val/cat/5.png")
    data = load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))
    assert data.classes == ("cat", "dog") and (len(data.train), len(data.test)) == (2, 2)
    assert data.notes[:2] == (
        "3 files skipped: 2 hidden (train/.cache/1.png, train/cat/.ipynb_checkpoints/IM1-checkpoint.png), "
        "1 no image (test/cat/notes.txt)",
        "beside train and test, not used: val",
    )


def test_a_folder_without_images_says_what_is_there_instead(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    save(tmp_path / "test/cat/1")
    with pytest.raises(UserError, match=r"no images below its class folders; 1 file skipped: 1 no image \(train/cat"):
        load_dataset(Experiment(dataset="image-folder", data_dir=tmp_path))
