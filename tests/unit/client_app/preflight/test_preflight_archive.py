"""`fednc-site check` on an archive: sizes, copies, and each image with a fault by its row."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from client_app.preflight.checks import check_site
from client_app.site.config import SiteConfig
from common.config import Experiment

Site = Callable[..., SiteConfig]
Deployed = Callable[..., Experiment]


def test_an_archive(site: Site, deployed: Deployed, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    names, x = np.array(["cat", "dog"]), np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(tmp_path / "data" / "x.npz", x=x, y=[0, 1, 1, 0], is_test=np.arange(4) > 2, class_names=names)
    findings = check_site(site(data="data/x.npz"), deployed())
    assert findings.problems == [] and findings.facts["classes"]["dog"] == {"train": 2, "test": 0}
    assert findings.facts["images"]["sizes"] == [{"width": 8, "height": 8, "images": 4}]
    assert findings.facts["images"]["colours"] == {"grey": 4}
    assert check_site(site(data="data/x.npz")).warnings[0].reason.endswith("looked at with --experiment only")


def test_an_archives_faults_are_named_with_array_and_row(site: Site, deployed: Deployed, tmp_path: Path) -> None:
    def jpeg(value: int, width: int = 12) -> bytes:
        pixels = np.full((9, width, 3), value, np.uint8)
        Image.fromarray(pixels).save(file := BytesIO(), "JPEG")
        return file.getvalue()

    def save(*files: bytes, **arrays: Any) -> None:
        offset, row = np.cumsum([0, *map(len, files)]), np.frombuffer(b"".join(files), np.uint8)
        np.savez(path, jpeg=row, offset=offset, class_names=np.array(["cat", "dog", "fox"]), **arrays)

    (tmp_path / "data").mkdir()
    path = tmp_path / "data" / "x.npz"
    y, is_test = np.array([0, 1, 2, 0, 2, 1, 0]), np.arange(7) > 4
    save(jpeg(0), b"none", jpeg(5), jpeg(0), jpeg(0, 6), b"two", jpeg(7), y=y, is_test=is_test)
    findings = check_site(site(data="data/x.npz"), deployed())
    broken = [problem for problem in findings.problems if problem.kind == "image"]
    assert [problem.place for problem in broken] == [f"{path}: jpeg[{row}]" for row in (1, 5)]
    assert all("not a readable image" in problem.reason for problem in broken)
    (twice,) = [warning for warning in findings.warnings if warning.kind == "duplicate"]
    assert (twice.place, "the same file as" in twice.reason) == (f"{path}: jpeg[3]", True)
    assert [found.reason for found in findings.warnings if found.kind == "size"] == [
        "1 images are smaller than image-size 8: enlarged"
    ]
    leak, other = jpeg(40), jpeg(80)
    save(leak, other, other, jpeg(1), jpeg(2), leak, jpeg(3), y=y, is_test=is_test)
    problems = check_site(site(data="data/x.npz"), deployed()).problems
    assert [problem.place for problem in problems] == [f"{path}: jpeg[{row}]" for row in (5, 2)]
    assert "is in test and train: a leak" in problems[0].reason and "has other labels" in problems[1].reason
    save(*map(jpeg, range(0, 70, 10)), y=y, is_test=is_test)
    findings = check_site(site(data="data/x.npz"), deployed())
    assert findings.problems == [] and findings.facts["classes"]["fox"] == {"train": 2, "test": 0}
    assert findings.facts["images"]["sizes"] == [{"width": 12, "height": 9, "images": 7}]
    assert findings.facts["images"]["colours"] == {"colour": 7}
    save(jpeg(0), y=y, is_test=is_test)
    assert "offset has 2 entries, expected 8" in check_site(site(data="data/x.npz"), deployed()).problems[0].reason


def test_copies_in_an_archive_are_told_by_the_experiments_classes(
    site: Site, deployed: Deployed, tmp_path: Path
) -> None:
    """Two of the archive's words may mean one class: no contradiction, as in a manifest."""
    (tmp_path / "data").mkdir()
    names, one = np.array(["nevus", "mole", "dog"]), np.zeros((8, 8), np.uint8)
    x = np.stack([one, one, *np.arange(128, dtype=np.uint8).reshape(2, 8, 8)])
    keys: dict[str, Any] = {"data": "data/x.npz", "class_map": {"nevus": "cat", "mole": "cat"}}

    def found(y: Any) -> tuple[list[str], list[str]]:
        np.savez(tmp_path / "data" / "x.npz", x=x, y=y, is_test=np.arange(4) > 2, class_names=names)
        findings = check_site(site(**keys), deployed())
        copies = [[f.reason for f in of if f.kind == "duplicate"] for of in (findings.problems, findings.warnings)]
        return copies[0], copies[1]

    several = np.eye(3, dtype=np.int64)
    for same in ([0, 1, 2, 2], several[[0, 1, 2, 2]], several[[0, 0, 2, 2]] + several[[1, 1, 0, 0]]):
        problems, (warning,) = found(same)
        assert problems == [] and warning.endswith("x[0] counts twice; keep one")
    for other in ([0, 2, 1, 2], several[[0, 2, 1, 2]]):
        (problem,), warnings = found(other)
        assert warnings == [] and problem.endswith("has other labels; keep the one that is right")
    keys["class_map"] = {"nevus": "cat"}
    (problem,), _ = found([0, 1, 2, 2])  # no class of the experiment is another class
    assert problem.endswith("has other labels; keep the one that is right")
