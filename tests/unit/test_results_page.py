"""The page of results and the README's table are generated, and their numbers are those of the runs."""

import csv
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from documents import text_of

from server_app.compare.store import Store
from tests.benchmarks.results_page import RESULTS, entries, page, short, tables

PAGE = text_of("tests/benchmarks/results/README.md")
WORDS = " ".join(PAGE.split())
STUDIES = sorted(path.parent for path in RESULTS.glob("**/results.md"))
DIRICHLET = ("0.5", "0.1")
STAGES = {"final": "trained", "realigned": "realigned", "finetuned": "fine-tuned"}


def lines(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a folder's runs.jsonl, as anyone may read them."""
    with (folder / "runs.jsonl").open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def generic(folder: str, **which: str) -> list[dict[str, Any]]:
    """Return the generic metrics, of the judged head, of the runs in a folder of results with such values."""
    runs = [line for line in lines(RESULTS / folder) if which.items() <= line.items()]
    heads = [(line["summary"]["generic"], line["summary"]["headline"]["head"]) for line in runs]
    return [metrics[head] for metrics, head in heads if head]


def test_the_page_is_what_the_generator_writes() -> None:
    assert page() == PAGE, "run: python -m tests.benchmarks.results_page > tests/benchmarks/results/README.md"


def test_the_readmes_table_is_what_the_generator_writes() -> None:
    assert short() in text_of("README.md"), "run: python -m tests.benchmarks.results_page --short"
    assert short().count("\n") <= 12


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_studys_tables_are_those_of_its_runs(folder: Path) -> None:
    made = tables(folder)
    assert sum(len(entry.results) for entry in entries(folder)) == len(list(lines(folder)))
    assert (folder / "results.csv").read_text(encoding="utf-8") == made["results.csv"]
    assert (folder / "results.md").read_text(encoding="utf-8").startswith(made["results.md"])
    if (folder / "headline.md").exists():
        assert (folder / "headline.md").read_text(encoding="utf-8") == made["headline.md"]


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_a_line_and_experiment_yaml_are_a_run_to_whoever_reads_them_plainly(folder: Path) -> None:
    shared: dict[str, Any] = {}
    for key, value in yaml.safe_load((folder / "experiment.yaml").read_text(encoding="utf-8")).items():
        shared |= value if isinstance(value, dict) else {key: value}
    stored = {(run.stem, run.config): run.result for run in Store(folder).runs}
    assert len(stored) == len(list(lines(folder)))
    for line in lines(folder):
        values = {key: value for key, value in shared.items() if key not in line.get("without", [])}
        values |= line["overrides"] | {"method": line["method"], "seed": line["seed"]}
        facts = json.dumps({"experiment": values, "data": line["data"]}, sort_keys=True)
        assert hashlib.sha256(facts.encode()).hexdigest()[:8] == line["config"]
        kept = {key: line[key] for key in ("data", "versions", "summary", "curves", "prototype_cosine") if key in line}
        assert stored[name(line), line["config"]] == {"experiment": values, **kept}


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_results_csv_has_the_numbers_of_the_summaries(folder: Path) -> None:
    rows = list(csv.DictReader((folder / "results.csv").open(encoding="utf-8")))
    expected = Counter[tuple[str, ...]]()
    for line in lines(folder):
        about, summary = (name(line), line["config"]), line["summary"]
        for head, metrics in summary["generic"].items():
            for key in metrics.keys() - {"score"}:
                expected[*about, "generic", head, "", key, written(metrics[key])] += 1
        for stage, metrics in summary["personal"].items():
            means = metrics.get("means", {"accuracy": metrics["mean"]})
            first = next(iter(means))
            means |= {f"{first}_std": metrics["std"], f"{first}_worst": metrics["worst"]}
            for key, value in means.items():
                expected[*about, "personal", "", STAGES[stage], key, written(value)] += 1
        for key, value in {**summary["cost"], "prototype_cosine": line.get("prototype_cosine")}.items():
            expected[*about, "run", "", "", key, written(value)] += 1
    facts = ("run", "config", "model", "head", "stage")
    metrics = set(rows[0]) - {*facts, "dataset", "method", "variant", "seed", "measured_on", "judged", "best"}
    found = Counter((*(row[fact] for fact in facts), key, row[key]) for row in rows for key in metrics)
    assert {cell: n for cell, n in found.items() if cell[-1]} == {cell: n for cell, n in expected.items() if cell[-1]}


def name(line: dict[str, Any]) -> str:
    words = (line["method"], re.sub(r"[^\w.]+", "-", line["variant"]), f"seed{line['seed']}")
    return "-".join(filter(None, words))


def written(value: float | None) -> str:
    return "" if value is None else str(value)


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
    runs = [figures for setting in DIRICHLET for figures in generic(f"voc_animals_dirichlet_{setting}")]
    assert {figures["undefined_auc"] for figures in runs} == {1, 2}
    assert "One or two labels, by seed, cannot be measured" in WORDS


def test_f1_of_fedrod_on_composites() -> None:
    means = []
    for setting in DIRICHLET:
        for attention in (False, True):
            which = {"method": "fedrod", "variant": f"attention={attention}"}
            runs = generic(f"ham10000_composites_dirichlet_{setting}", **which)
            assert len(runs) == 3
            means.append(100 * mean(figures["macro_f1"] for figures in runs))
    assert f"FedROD's, which compensates alike, is nearly as high ({min(means):.0f} to {max(means):.0f})" in WORDS
