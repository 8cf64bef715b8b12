"""Chromium, and the pages that it opens: of a run, of one with several labels an image, of a comparison."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from made_up_comparison import entry, result
from made_up_multilabel_run import write_multilabel_run
from made_up_run import write_run

from common.config import build
from common.methods import methods_for
from server_app.compare.page import comparison_page
from server_app.compare.tables import rows_of
from server_app.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="session")
def chromium() -> "Iterator[Browser]":
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed (CONTRIBUTING.md says how to get one)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    root = sys.platform == "linux" and os.geteuid() == 0
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


def _run(folder: Path) -> Path:
    return write_report(write_run(folder))


def _multilabel_run(folder: Path) -> Path:
    return write_report(write_multilabel_run(folder))


def _comparison(folder: Path) -> Path:
    levels = {name: 0.3 + 0.04 * i for i, name in enumerate(methods_for(multilabel=False)[:12])}
    found = [
        entry(lambda **keys: build({"name": "made-up", **keys}), name, result(name, level), result(name, level + 0.03))
        for name, level in levels.items()
    ]
    (folder / "results.html").write_text(comparison_page(found, list(rows_of(found))).html(), encoding="utf-8")
    return folder / "results.html"


PAGES: dict[str, Callable[[Path], Path]] = {
    "run": _run,
    "multilabel run": _multilabel_run,
    "comparison": _comparison,
}


@pytest.fixture(scope="session", params=PAGES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, chromium: "Browser") -> Path:
    """A page; none is made where there is no browser to open it."""
    return PAGES[request.param](tmp_path_factory.mktemp("page"))
