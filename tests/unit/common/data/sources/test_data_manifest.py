"""CSV manifests: three ways to write labels, splits, patients, sites, and an error with its line for each mistake."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.config import Experiment
from common.data import build_federation, load_dataset
from common.data.sources.file_sets import inside

ErrorOf = Callable[[Callable[[], object]], str]
FOUR = "image,split,labels\na.png,train,cat|dog\nb.png,train,\nsub/c.png,test,dog; fox\nd.png,train,cat\n"


def manifest(folder: Path, text: str, classes: str | None = None, **keys: Any) -> Experiment:
    (folder / "sub").mkdir(exist_ok=True)
    for i, name in enumerate(("a", "b", "sub/c", "d")):
        Image.fromarray(np.full((6, 5), 10 * i, np.uint8)).save(folder / f"{name}.png")
    (folder / "manifest.csv").write_text(text, encoding="utf-8")
    if classes is not None:
        (folder / "classes.txt").write_text(classes, encoding="utf-8")
    return Experiment(dataset="manifest", data_dir=folder, **keys)


def many(folder: Path, images: int, columns: str, row: Callable[[int], str]) -> Experiment:
    for i in range(images):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / f"{i:03d}.png")
    lines = [f"{i:03d}.png,{row(i)}" for i in range(images)]
    (folder / "manifest.csv").write_text("\n".join([f"image,{columns}", *lines]))
    return Experiment(dataset="manifest", data_dir=folder)


def test_several_labels_in_one_column(tmp_path: Path) -> None:
    data = load_dataset(manifest(tmp_path, FOUR))
    assert data.multilabel and data.classes == ("cat", "dog", "fox")
    assert data.train.labels.tolist() == [[True, True, False], [False] * 3, [True, False, False]]
    assert data.test.labels.tolist() == [[False, True, True]]
    assert (data.train.channels, data.train.size) == (1, (6, 5))
    assert data.train.batch(np.arange(3))[:, 0, 0, 0].tolist() == [0, 10, 30]
    assert (data.train_groups, data.train_sites, data.site_names) == (None, None, ())
    assert load_dataset(Experiment(dataset="manifest", data_dir=tmp_path / "manifest.csv")).classes == data.classes


def test_one_class_an_image(tmp_path: Path) -> None:
    text = "image,split,label,age\na.png,train,dog,50\nb.png,train,cat,\nsub/c.png,test,dog,1\nd.png,train,cat,7\n"
    data = load_dataset(manifest(tmp_path, text))  # other columns do not matter
    assert not data.multilabel and data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0, 0] and data.test.labels.tolist() == [1]
    assert data.train.labels.dtype == np.int64


def test_a_column_of_each_class(tmp_path: Path) -> None:
    text = "image,dog,split,cat\na.png,1,train,0\nb.png,0,train,0\nsub/c.png,1,test,1\nd.png,0,train,1\n"
    data = load_dataset(manifest(tmp_path, text))
    assert data.multilabel and data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [[False, True], [False, False], [True, False]]


ONE = "image,split,label\na.png,train,cat\nb.png,train,dog\nsub/c.png,test,fox\nd.png,train,cat\n"


@pytest.mark.parametrize("text", [FOUR, ONE])
def test_a_list_of_classes_gives_their_order(tmp_path: Path, text: str) -> None:
    data = load_dataset(manifest(tmp_path, text, "fox\nowl\n\ndog\ncat\n"))
    assert data.classes == ("fox", "owl", "dog", "cat")
    fox = data.test.labels[0, 0] if data.multilabel else data.test.labels[0] == 0
    assert fox


def test_a_list_of_classes_chooses_columns(tmp_path: Path) -> None:
    text = "image,dog,split,cat,age\na.png,1,train,0,50\nb.png,0,train,0,51\nsub/c.png,1,test,1,\nd.png,0,train,1,2\n"
    assert load_dataset(manifest(tmp_path, text, "dog\ncat\n")).classes == ("dog", "cat")


def test_spreadsheets_mark_and_blanks_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeff" + FOUR.replace(",", " , ").replace("\n", "\r\n")
    assert load_dataset(manifest(tmp_path, text)).classes == ("cat", "dog", "fox")


def test_sites_and_patients(tmp_path: Path) -> None:
    text = (
        "image,split,site,patient,labels\na.png,train,west,p2,cat\nb.png,train,east,p1,\n"
        "sub/c.png,test,west,p3,dog\nd.png,train,west,p1,cat\n"
    )
    experiment = manifest(tmp_path, text, partition="natural")
    data = load_dataset(experiment)
    assert data.site_names == ("east", "west")
    assert data.train_sites is not None and data.train_sites.tolist() == [1, 0, 1]
    assert data.test_sites is not None and data.test_sites.tolist() == [1]
    assert data.train_groups is not None and data.train_groups.tolist() == [1, 0, 0]
    assert data.test_groups is not None and data.test_groups.tolist() == [2]
    made = build_federation(experiment)
    assert [rows.tolist() for rows in made.train_rows] == [[1], [0, 2]]
    assert [rows.tolist() for rows in made.test_rows] == [[], [0]]


def test_a_manifest_without_sites_has_no_natural_ones(tmp_path: Path, error_of: ErrorOf) -> None:
    experiment = manifest(tmp_path, FOUR, partition="natural")
    assert "'manifest' names no sites" in error_of(lambda: build_federation(experiment))


def test_without_a_split_a_fifth_of_the_patients_is_for_testing(tmp_path: Path) -> None:
    experiment = many(tmp_path, 60, "patient,label", lambda i: f"p{i % 20},{i % 3}")
    data = load_dataset(experiment)
    assert data.train_groups is not None and data.test_groups is not None
    assert len(np.unique(data.test_groups)) == 4 and len(data.test) == 12
    assert not np.intersect1d(data.train_groups, data.test_groups).size
    again = load_dataset(experiment.replace(seed=5, image_size=3))
    assert again is not data and np.array_equal(again.test_groups, data.test_groups)


def test_without_patients_a_fifth_of_the_images_is_for_testing(tmp_path: Path) -> None:
    data = load_dataset(many(tmp_path, 40, "labels", lambda i: "a|b" if i % 2 else ""))
    assert (len(data.train), len(data.test)) == (32, 8)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("image,", "picture,", "manifest.csv: no column 'image'"),
        ("labels", "split", "manifest.csv: column 3 is named 'split'; give each column a name of its own"),
        ("labels", "", "manifest.csv: column 3 is named ''"),
        ("d.png,train,cat", "d.png,train", "manifest.csv:5: has 2 fields, the first line 3"),
        ("d.png,train,cat", "d.png,train,cat,,", "manifest.csv:5: has 5 fields"),
        ("b.png", "x.png", "manifest.csv:3: image 'x.png': there is no file"),
        ("b.png", "../b.png", "manifest.csv:3: image '../b.png': give a path below the manifest's folder"),
        ("b.png", "/b.png", "manifest.csv:3: image '/b.png': give a path below"),
        ("b.png", "", "manifest.csv:3: image '': give a path below"),
        ("b.png", "./a.png", "manifest.csv:3: image './a.png' is in line 2, too"),
        ("b.png,train", "b.png,val", "manifest.csv:3: split is 'val', expected train or test"),
        ("c.png,test", "c.png,train", "manifest.csv: split is 'train' in every line"),
        (FOUR[19:], "", "manifest.csv: lists no image"),
        ("cat|dog", '"cat', "manifest.csv:5: not readable as CSV"),
    ],
)
def test_mistakes_are_named_with_their_line(
    tmp_path: Path, old: str, new: str, message: str, error_of: ErrorOf
) -> None:
    experiment = manifest(tmp_path, FOUR.replace(old, new))
    assert message in error_of(lambda: load_dataset(experiment))


@pytest.mark.parametrize(
    ("text", "classes", "message"),
    [
        (
            "image,split,label\na.png,train,\nb.png,test,x\n",
            None,
            "manifest.csv:2: label is empty; give every image",
        ),
        ("image,label,labels\na.png,x,y\n", None, "has columns 'label' and 'labels'; keep one of them"),
        ("image,split\na.png,train\nb.png,test\n", None, "manifest.csv: no labels; add a column"),
        ("image,split,labels\na.png,train,\nb.png,test,\n", None, "manifest.csv: no image has a label"),
        ("image,split,x,age\na.png,train,1,50\n", None, "manifest.csv:1: column 'age' has neither 0 nor 1 in any row"),
        (
            "image,split,dx,sex\na.png,train,x,F\nb.png,test,y,M\n",
            None,
            "label' if it names each image's class; or list the classes in classes.txt | line 1: column 'sex'",
        ),
        ("image,label\nimg\\a.png,x\n", None, "a.png; write / between folders and file"),
        ("image,split,x\na.png,train,1\nb.png,test,\n", None, "manifest.csv:3: 'x' is '', expected 0 or 1"),
        (FOUR, "cat\ndog\n", "manifest.csv:4: label 'fox' is not in classes.txt"),
        (FOUR.replace("fox", "dgo"), "cat\ndog\n", "did you mean 'dog'?"),
        (FOUR, "cat\ndog\n\ncat\n", "classes.txt:4: 'cat' is in line 1, too"),
        (FOUR, "\n", "classes.txt: lists nothing"),
        ("image,split,x\na.png,train,1\nb.png,test,0\n", "x\ny\n", "no column 'y', which classes.txt lists"),
        ("image,label\na.png,x\n", None, "one image or patient alone cannot be split"),
        ("image,label,patient\na.png,x,1\nb.png,y,1\n", None, "one image or patient alone cannot be split"),
        ("image,label,patient\na.png,x,1\nb.png,y,\n", None, "manifest.csv:3: patient is empty"),
        ("image,label,site\na.png,x,\nb.png,y,1\n", None, "manifest.csv:2: site is empty"),
        (
            "image,split,label,patient\na.png,train,x,p1\nb.png,test,y,p2\nd.png,test,y,p1\n",
            None,
            "manifest.csv:4: patient 'p1' is in test here and in train in line 2: a leak",
        ),
    ],
)
def test_mistakes_in_labels_and_patients(
    tmp_path: Path, text: str, classes: str | None, message: str, error_of: ErrorOf
) -> None:
    experiment = manifest(tmp_path, text, classes)
    assert message in error_of(lambda: load_dataset(experiment))


def test_an_image_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, error_of: ErrorOf) -> None:
    experiment = manifest(tmp_path, FOUR)
    (tmp_path / "b.png").write_bytes(b"no image")
    assert "manifest.csv:3: " in error_of(lambda: load_dataset(experiment))
    Image.new("L", (7, 6)).save(tmp_path / "b.png")
    message = error_of(lambda: load_dataset(experiment))
    assert "manifest.csv:3: " in message and "set image-size" in message
    Image.new("RGB", (5, 6)).save(tmp_path / "b.png")
    assert "is a colour image" in error_of(lambda: load_dataset(experiment))


def test_a_missing_manifest(tmp_path: Path, error_of: ErrorOf) -> None:
    for path in (tmp_path, tmp_path / "other.csv"):
        message = error_of(lambda path=path: load_dataset(Experiment(dataset="manifest", data_dir=path)))  # type: ignore[misc]
        assert "no such file; set data-dir to a CSV" in message


def test_only_names_below_a_folder_are_inside() -> None:
    root = Path("/data")
    assert inside(root, "a/b.png") == root / "a" / "b.png"
    assert inside(root, "./b..png") == root / "b..png"
    assert all(inside(root, name) is None for name in ("", ".", "..", "../a", "a/../../b", "/a", "a\0b"))


def check(folder: Path, text: str, classes: str | None = None, **keys: Any) -> Any:
    return load_dataset(manifest(folder, text, classes, **keys))


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("image", ["Image", "filename", "File", "PATH"])
def test_columns_and_separators_as_hospitals_write_them(tmp_path: Path, mark: str, image: str) -> None:
    text = f"{image},Split,Patient,SITE,Label\na.png,Train,p1,s,x\nb.png,TEST,p2,s,y\nsub/c.png,train,p3,t,y\n"
    data = check(tmp_path, text.replace(",", mark))
    assert data.classes == ("x", "y") and (len(data.train), len(data.test)) == (2, 1)
    assert data.site_names == ("s", "t") and data.train_groups is not None
    said = " ".join(data.notes)
    assert f"column '{image}' is taken as 'image'" in said and "column 'SITE' is taken as 'site'" in said
    assert ("separated by" in said) == (mark != ",") and ("tabs" in said) == (mark == "\t")
    assert data.train_names == ("a.png", "sub/c.png") and data.test_names == ("b.png",)


def test_a_plain_manifest_has_no_notes(tmp_path: Path) -> None:
    assert check(tmp_path, FOUR).notes == ()


def test_classes_of_one_side_and_of_none_are_named(tmp_path: Path) -> None:
    experiment = manifest(tmp_path, ONE, "cat\ndog\nfox\nowl\nyak\n", sites=1)
    assert load_dataset(experiment).notes == ()  # of a real coordinator, whose training images nobody uses
    assert build_federation(experiment).dataset.notes == (
        "no image at all of 2 classes: 'owl', 'yak': an empty folder, or a name without images",
        "test images and no training image of class 'fox': it cannot be learned",
    )


def test_one_class_alone_is_refused(tmp_path: Path, error_of: ErrorOf) -> None:
    for text in (ONE.replace("dog", "cat").replace("fox", "cat"), "image,split,x\na.png,train,1\nb.png,test,0\n"):
        experiment = manifest(tmp_path, text, image_size=4 + len(text) % 7)
        message = error_of(lambda experiment=experiment: build_federation(experiment))  # type: ignore[misc]
        assert "there is one class alone" in message


def test_two_columns_that_may_be_the_same_are_refused(tmp_path: Path, error_of: ErrorOf) -> None:
    message = error_of(lambda: check(tmp_path, "image,label,Path\na.png,x,b.png\n"))
    assert "columns 'image' and 'Path' may each be 'image'; remove or rename all but one" in message


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            ONE.replace("b.png,train,dog", "b.png,train,Cat"),
            ["manifest.csv:3: label 'Cat' (1 line) looks like 'cat' of line 2 (2 lines): did you mean one of them?"],
        ),
        (ONE.replace("dog", "c\u0430t"), ["label 'c\u0430t' (1 line) looks like 'cat'", "CYRILLIC SMALL LETTER A"]),
        (ONE.replace("dog", "1").replace("fox", "1.0"), ["manifest.csv:4: label '1.0' (1 line) looks like '1' of"]),
        (ONE.replace("dog", "do\u200bg"), ["manifest.csv:3: label 'do\u200bg' has a character".replace("\u200b", " ")]),
        (
            FOUR.replace("cat|dog", '"Mass, Edema"'),
            ["manifest.csv:2: label 'Mass, Edema' has a comma: did you mean 'Mass|Edema'? Write | between labels"],
        ),
        (
            "image,split,dog,Dog\na.png,train,1,0\nb.png,test,0,1\n",
            ["manifest.csv:1: column 'dog' (1 line) looks like 'Dog' of line 1"],
        ),
        (
            "image,split,x,y\na.png,train,1,2\nb.png,test,,n/a\nd.png,train,0,1\n",
            ["manifest.csv:2: 'y' is '2', expected 0 or 1", "line 3: 'x' is '', 'y' is 'n/a', expected 0 or 1"],
        ),
        (
            "image,label,patient\na.png,x,3\nb.png,y,4\nd.png,y,3.0\n",
            ["manifest.csv:4: patient '3.0' (1 line) looks like '3' of line 2 (1 line): did you mean one of them?"],
        ),
        (
            "image,split,label,site\na.png,train,x,North\nb.png,test,y,north\n",
            ["manifest.csv:3: site 'north' (1 line) looks like 'North' of line 2"],
        ),
        ("image,split,label,site\na.png,train,x,a/b\nb.png,test,y,c\n", ["manifest.csv:2: site 'a/b': use letters"]),
        (
            "image,split,label\na.png,train,x\nb.png,val,y\nd.png,test,y\n",
            ["split is 'val', expected train or test; validation images are drawn of the training images"],
        ),
        (
            ONE.replace("b.png", "gone.png").replace("c.png", "d.png"),
            ["manifest.csv:3: image 'gone.png': there is no file", "| line 4: image 'sub/d.png': there is no file"],
        ),
    ],
)  # fmt: skip
def test_what_looks_alike_or_is_misread_is_refused_by_its_lines(
    tmp_path: Path, text: str, messages: list[str], error_of: ErrorOf
) -> None:
    found = error_of(lambda: check(tmp_path, text))
    for message in messages:
        assert message in found


def test_a_class_with_a_comma_can_be_listed(tmp_path: Path) -> None:
    text = FOUR.replace("cat|dog", '"Mass, Edema|dog"')
    assert check(tmp_path, text, "Mass, Edema\ndog\nfox\ncat\n").classes[0] == "Mass, Edema"


def test_the_list_of_classes_follows_the_rule_too(tmp_path: Path, error_of: ErrorOf) -> None:
    message = error_of(lambda: check(tmp_path, FOUR, "cat\nCat\ndog\nfox\n"))
    assert "classes.txt: class 'Cat' and 'cat' look alike" in message
    assert "did you mean 'Cat'? add it there" in error_of(lambda: check(tmp_path, FOUR, "Cat\ndog\nfox\n"))


def test_patients_that_look_alike_otherwise_are_named(tmp_path: Path) -> None:
    text = "image,label,patient\na.png,x,a1\nb.png,x,A1\nsub/c.png,y,03\nd.png,y,3\n"
    said = " | ".join(check(tmp_path, text).notes)
    assert "manifest.csv: line 3: patient 'A1' (1 line) looks like 'a1' of line 2" in said
    assert "line 5: patient '3' (1 line) looks like '03'" in said


@pytest.mark.parametrize(
    ("how", "word", "message"),
    [
        ("utf-16", "f\u00fcx", "manifest.csv:1: not UTF-8 text but UTF-16"),
        ("utf-16-le", "fox", "perhaps UTF-16"),
        ("latin-1", "f\u00fcx", "manifest.csv:4: not UTF-8 text"),
    ],
)
def test_lists_that_are_no_utf8_are_refused_in_plain_words(
    tmp_path: Path, how: str, word: str, message: str, error_of: ErrorOf
) -> None:
    experiment = manifest(tmp_path, FOUR)
    (tmp_path / "manifest.csv").write_bytes(FOUR.replace("fox", word).encode(how))
    found = error_of(lambda: load_dataset(experiment))
    assert message in found and "save the list as UTF-8" in found
