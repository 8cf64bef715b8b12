"""What the README says in words of its tables is what the raw results say."""

import json
import re
from statistics import mean
from typing import Any

from common.config import APP_ROOT

README = " ".join((APP_ROOT / "README.md").read_text(encoding="utf-8").split())
RESULTS = APP_ROOT / "tests" / "benchmarks" / "results"
DIRICHLET = ("0.5", "0.1")


def generic(folder: str, stem: str) -> list[dict[str, Any]]:
    """Return the generic metrics, of the judged head, of the runs in a folder of results with such files."""
    summaries = [json.loads(path.read_text(encoding="utf-8"))["summary"] for path in (RESULTS / folder).glob(stem)]
    return [of["generic"][of["headline"]["head"]] for of in summaries if of["headline"]["head"]]


def test_what_the_animals_sites_miss() -> None:
    hidden = []
    for setting, said in zip(DIRICHLET, ("({} to {} by seed;", "at Dirichlet 0.1: {} to {})"), strict=True):
        text = (RESULTS / f"voc_animals_dirichlet_{setting}" / "results.md").read_text(encoding="utf-8")
        seeds = re.findall(r"seed \d: ([\d.]+) %, [\d.]+ %, ([\d.]+) %", text)
        missing = sorted(float(share) for share, _ in seeds)
        hidden += [float(share) for _, share in seeds]
        assert len(seeds) == 3 and said.format(missing[0], missing[-1]) in README
    assert f"{min(hidden):.0f} to {max(hidden):.0f} % of the images' labels are hidden" in README


def test_how_many_of_the_animals_labels_cannot_be_measured() -> None:
    runs = [figures for setting in DIRICHLET for figures in generic(f"voc_animals_dirichlet_{setting}", "*.json")]
    assert {figures["undefined_auc"] for figures in runs} == {1, 2}
    assert "One or two labels, by seed, cannot be measured" in README


def test_f1_of_fedrod_on_composites() -> None:
    means = []
    for setting in DIRICHLET:
        for attention in (False, True):
            runs = generic(f"ham10000_composites_dirichlet_{setting}", f"fedrod-attention-{attention}-seed*.json")
            assert len(runs) == 3
            means.append(100 * mean(figures["macro_f1"] for figures in runs))
    assert f"FedROD's, which compensates alike, is nearly as high ({min(means):.0f} to {max(means):.0f})" in README
