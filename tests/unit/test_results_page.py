"""The page of results and the README's table are generated, and their numbers are those of the JSON files."""

import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from documents import text_of

from tests.benchmarks.results_page import RESULTS, entries, page, short, tables

PAGE = text_of("tests/benchmarks/results/README.md")
WORDS = " ".join(PAGE.split())
STUDIES = sorted(path.parent for path in RESULTS.glob("**/results.md"))
DIRICHLET = ("0.5", "0.1")


def generic(folder: str, stem: str) -> list[dict[str, Any]]:
    """Return the generic metrics, of the judged head, of the runs in a folder of results with such files."""
    summaries = [json.loads(path.read_text(encoding="utf-8"))["summary"] for path in (RESULTS / folder).glob(stem)]
    return [of["generic"][of["headline"]["head"]] for of in summaries if of["headline"]["head"]]


def test_the_page_is_what_the_generator_writes() -> None:
    assert page() == PAGE, "run: python -m tests.benchmarks.results_page > tests/benchmarks/results/README.md"


def test_the_readmes_table_is_what_the_generator_writes() -> None:
    assert short() in text_of("README.md"), "run: python -m tests.benchmarks.results_page --short"
    assert short().count("\n") <= 12


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_studys_tables_are_those_of_its_json_files(folder: Path) -> None:
    made = tables(folder)
    assert sum(len(entry.results) for entry in entries(folder)) == len(list(folder.glob("*-seed*.json")))
    assert (folder / "results.md").read_text(encoding="utf-8").startswith(made["results.md"])
    if (folder / "headline.md").exists():
        assert (folder / "headline.md").read_text(encoding="utf-8") == made["headline.md"]


def test_every_study_is_on_the_page() -> None:
    shown = [folder for folder in STUDIES if folder.parent == RESULTS]
    assert [f.name for f in shown if not any(p.read_text(encoding="utf-8") in PAGE for p in f.glob("*.md"))] == []


def test_what_the_animals_sites_miss() -> None:
    hidden = []
    for setting, said in zip(DIRICHLET, ("({} to {} by seed;", "at Dirichlet 0.1: {} to {})"), strict=True):
        text = (RESULTS / f"voc_animals_dirichlet_{setting}" / "results.md").read_text(encoding="utf-8")
        seeds = re.findall(r"seed \d: ([\d.]+) %, [\d.]+ %, ([\d.]+) %", text)
        missing = sorted(float(share) for share, _ in seeds)
        hidden += [float(share) for _, share in seeds]
        assert len(seeds) == 3 and said.format(missing[0], missing[-1]) in WORDS
    assert f"{min(hidden):.0f} to {max(hidden):.0f} % of the images' labels are hidden" in WORDS


def test_how_many_of_the_animals_labels_cannot_be_measured() -> None:
    runs = [figures for setting in DIRICHLET for figures in generic(f"voc_animals_dirichlet_{setting}", "*.json")]
    assert {figures["undefined_auc"] for figures in runs} == {1, 2}
    assert "One or two labels, by seed, cannot be measured" in WORDS


def test_f1_of_fedrod_on_composites() -> None:
    means = []
    for setting in DIRICHLET:
        for attention in (False, True):
            runs = generic(f"ham10000_composites_dirichlet_{setting}", f"fedrod-attention-{attention}-seed*.json")
            assert len(runs) == 3
            means.append(100 * mean(figures["macro_f1"] for figures in runs))
    assert f"FedROD's, which compensates alike, is nearly as high ({min(means):.0f} to {max(means):.0f})" in WORDS
