"""The charts of a page as files: what each kind holds, what is removed, and what is said where one cannot be written."""

import csv
import errno
import logging
import math
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from made_up_multilabel_run import write_multilabel_run
from made_up_run import write_run
from PIL import Image

from common.errors import UserError
from server_app.report import write_report
from server_app.report.charts import Chart, Series, line_chart
from server_app.report.charts import files as chart_files
from server_app.report.charts.dots import dot_chart
from server_app.report.charts.files import as_csv, write_charts
from server_app.report.charts.lines import FEW
from server_app.report.charts.plane import Point, plane_chart

KINDS = {".svg", ".pdf", ".png", ".csv"}


def curves(name: str = "curves", titles: Sequence[str] = ("generic", "=evil()")) -> Chart:
    series = [Series(title, [(1, 0.25), (2, None), (3, 0.123456789)], i) for i, title in enumerate(titles)]
    chart = line_chart(name, series, "round", "accuracy", "Accuracy by round", percent=True)
    assert chart is not None
    return chart


def text_of_pdf(content: bytes) -> str:
    """Return the words that a PDF shows, a line each: what its streams draw as text, without the kerning."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, re.DOTALL)
    drawn = b"\n".join(zlib.decompressobj().decompress(stream) for stream in streams if stream[:1] == b"\x78")
    lines = re.findall(rb"\[(.*?)\]\s*TJ|(\(.*?\))\s*Tj", drawn, re.DOTALL)
    letters = [b"".join(re.findall(rb"\(((?:\\.|[^\\)])*)\)", several or one, re.DOTALL)) for several, one in lines]
    return "\n".join(re.sub(r"\\(.)", r"\1", line.decode("latin-1").replace("\0", "")) for line in letters)


@pytest.mark.parametrize("write", [write_run, write_multilabel_run])
def test_every_chart_of_a_page_is_four_files(write: Callable[[Path], Path], tmp_path: Path) -> None:
    page = write_report(write(tmp_path), charts=True)
    files = list((tmp_path / "charts").iterdir())
    drawn = page.read_text(encoding="utf-8").count('role="img"')
    assert drawn > 5 and len(files) == 4 * drawn
    assert {file.suffix for file in files} == KINDS and len({file.stem for file in files}) == drawn
    for file in files:
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert image.size[0] == 2500 and all(math.isclose(dots, 200, abs_tol=0.1) for dots in image.info["dpi"])
        if file.suffix == ".svg":
            ET.fromstring(file.read_bytes())
        if file.suffix == ".pdf":
            assert file.read_bytes().startswith(b"%PDF")
        if file.suffix == ".csv":
            rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
            assert len(rows) > 1 and {len(row) for row in rows[1:]} <= {len(rows[0])}


def test_a_report_at_the_end_of_a_run_draws_no_file(tmp_path: Path) -> None:
    write_report(write_run(tmp_path))
    assert not (tmp_path / "charts").exists()


def test_text_stays_text_in_svg_and_pdf() -> None:
    svg, pdf = curves().file("svg").decode(), text_of_pdf(curves().file("pdf"))
    for words in ("round", "accuracy", "generic", "=evil()"):
        assert words in " ".join(ET.fromstring(svg).itertext()) and words in pdf


def test_a_file_is_the_same_each_time() -> None:
    for kind in ("svg", "pdf", "png"):
        assert curves().file(kind) == curves().file(kind)


def test_the_data_are_plain_numbers_and_no_formula() -> None:
    rows = list(csv.reader(as_csv(curves()).splitlines()))
    assert rows[0] == ["series", "round", "accuracy"]
    assert rows[1:4] == [["generic", "1", "0.25"], ["generic", "2", ""], ["generic", "3", "0.123456789"]]
    assert rows[4][0] == "'=evil()"


def test_bands_and_whiskers_are_in_the_data() -> None:
    series = [Series("few", [(0, 0.5), (1, None)], 0, band=[(0.4, 0.6), None])]
    dots = dot_chart("dots", ["FedAvg", "Ditto"], series, "Accuracy")
    plane = plane_chart("plane", [Point("Ditto", None, 0.5, 0, 0.1, 0)], "generic", "personal", "Both", no_x="none")
    assert dots and as_csv(dots).splitlines()[1:] == ["FedAvg,few,0.5,0.4,0.6", "Ditto,few,,,"]
    assert plane and as_csv(plane).splitlines()[1:] == ["Ditto,,,0.5,0.1"]
    assert dot_chart("dots", ["Ditto"], [Series("few", [(0, None)], 0)], "Accuracy") is None
    assert plane_chart("plane", [], "generic", "personal", "Both", no_x="none") is None


@pytest.mark.parametrize("count", [FEW, FEW + 1])
def test_bands_of_many_curves_are_on_the_page_for_who_points_and_in_no_file(count: int) -> None:
    series = [Series(f"m{i}", [(1, 0.1), (2, 0.2)], i, band=[(0.1, 0.2), (0.1, 0.3)]) for i in range(count)]
    chart = line_chart("curves", series, "round", "accuracy", "Accuracy", percent=True)
    plain = line_chart("curves", [Series(s.name, s.points, s.style) for s in series], "round", "y", "A", percent=True)
    assert chart is not None and plain is not None
    many = count > FEW
    assert chart.svg().count('class="pointed"') == many * count
    bands = chart.file("svg").count(b"FillBetweenPolyCollection") or chart.file("svg").count(b"fill-opacity: 0.15")
    assert (bands == 0) is many


def test_charts_that_are_not_there_any_more_go_and_other_files_stay(tmp_path: Path) -> None:
    write_charts([curves("first"), curves("second")], tmp_path)
    (tmp_path / "charts" / "mine.svg").write_text("my own")
    (tmp_path / "charts" / "mine.csv").write_text("my own")
    write_charts([curves("second")], tmp_path)
    left = {path.name for path in (tmp_path / "charts").iterdir()}
    assert left == {"mine.svg", "mine.csv", *(f"second{kind}" for kind in KINDS)}


@pytest.mark.parametrize("names", [["../up"], ["Über"], [""], ["twice", "twice"]])
def test_a_name_that_is_no_files_is_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="each once a page"):
        write_charts([curves(name) for name in names], tmp_path)
    assert not (tmp_path / "charts").exists()


def test_a_full_disk_is_said_and_the_page_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(chart_files, "write_bytes", full)
    with pytest.raises(UserError, match=r"charts/[a-z-]+\.csv: cannot be written \(No space left.*the page stays"):
        write_report(write_run(tmp_path), charts=True)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").endswith("</html>")


def test_a_file_in_the_folders_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "charts").write_text("no folder")
    with pytest.raises(UserError, match="charts: cannot be written"):
        write_charts([curves()], tmp_path)
    assert (tmp_path / "charts").read_text() == "no folder"


def test_letters_that_no_font_has_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strange = "\U0001f9ec\ufdd0"  # the second is no letter at all, which no font can have
    with caplog.at_level(logging.WARNING, "fednc"):
        write_charts([curves("first", [strange]), curves("second", [strange])], tmp_path)
    said = [record.getMessage() for record in caplog.records if "no font" in record.getMessage()]
    assert len(said) == 1 and "\U0001f9ec" in said[0]


def test_what_a_user_has_set_for_other_charts_changes_none_of_ours(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = curves().svg()
    with mpl.rc_context({"font.size": 40.0, "text.usetex": True, "axes.facecolor": "red"}):
        assert curves().svg() == before
        assert mpl.rcParams["font.size"] == 40
