"""The report: well-formed, complete, asks for nothing outside, and survives whatever a run left behind."""

import json
import math
import re
from dataclasses import asdict
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config import build
from common.errors import UserError
from server_app.frames import FrameQuality
from server_app.report import write_report
from server_app.report.axes import Axis, count_axis, count_ticks, log_ticks, nice_ticks, value_axis
from server_app.report.charts import Series, line_chart, rank_ticks, shade_of, spread_labels
from server_app.report.geometry import ideal_angle
from server_app.report.record import read_run
from server_app.report.setup import duration, size
from server_app.report.sites import evenly

SECTIONS = (
    "Results",
    "Accuracy by round",
    "Losses by round",
    "Accuracy by class",
    "Frame geometry",
    "Head norms",
    "Sites",
    "Configuration and cost",
)
VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Collects tags, text and attributes, and fails on tags that do not balance."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tooltips: list[str] = []
        self.headings: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        here = self.open[-1] if self.open else ""
        if here == "h2":
            self.headings.append(data)
        if here == "title":
            self.tooltips.append(data)
        elif here != "style":
            self.text += data + " "


def write_run(folder: Path, num_classes: int = 10, num_sites: int = 8, rounds: int = 12, **config: Any) -> Path:
    """Write a complete run of a made-up FedLoGe experiment into the folder."""
    rng = np.random.default_rng(0)
    names = [f"site-{k:02d}" for k in range(num_sites)]
    totals = np.geomspace(500, 5, num_classes).astype(int)
    shares = rng.dirichlet(np.full(num_sites, 0.5), num_classes)
    counts = np.array([rng.multinomial(n, p) for n, p in zip(totals, shares, strict=True)]).T
    cut = (num_classes // 5, num_classes // 2)
    federation = {
        "classes": [f"kind {c}" for c in range(num_classes)],
        "site_names": names,
        "train_counts": counts.tolist(),
        "test_counts": (counts // 5).tolist(),
        "groups": {
            "many": list(range(cut[0])),
            "medium": list(range(*cut)),
            "few": list(range(cut[1], num_classes)),
        },
        "simulated": True,
        "num_test": 2000,
    }
    experiment = build({"name": "synthetic", "rounds": rounds, "seed": 7, **config}).dump()
    frame = asdict(FrameQuality(1.0, 1e-14, 96.38, 2e-9, 96.37, 96.39, 0.6, 0.2, "projection"))
    _dump(folder, config=experiment, versions={"torch": "2.15"}, frame=frame, federation=federation)
    events = [event for r in range(1, rounds + 1) for event in _round(rng, r, names, num_classes)]
    events += _end(rng, rounds, names, totals)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    return folder


def _dump(folder: Path, **files: Any) -> None:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


def _round(rng: np.random.Generator, r: int, names: list[str], num_classes: int) -> list[dict[str, Any]]:
    loss = {"backbone": 3 / r, "aux_head": 2 / r + 0.1, "personal_head": 1 / r + 0.05}
    traffic = {"seconds": 4 + rng.random(), "bytes_down": 1_200_000, "bytes_up": 1_100_000}
    done = {
        "event": "round",
        "round": r,
        "answered": len(names),
        "asked": len(names),
        "loss": loss,
        **traffic,
    }
    level = 0.6 * (1 - math.exp(-r / 4))
    return [
        done,
        _generic(rng, r, "training", "aux_head", level, num_classes, 0.5),
        _generic(rng, r, "training", "frame", level * 0.9, num_classes, 0.4),
        _personal(rng, r, "arrival", level + 0.15, names),
    ]


def _end(rng: np.random.Generator, r: int, names: list[str], totals: Any) -> list[dict[str, Any]]:
    heads = {"aux_head": totals**0.3, "aux_head_realigned": totals**0.05, "frame": totals**0.0}
    return [
        _generic(rng, r, "final", "aux_head", 0.58, len(totals), 0.5),
        _generic(rng, r, "final", "frame", 0.52, len(totals), 0.4),
        _generic(rng, r, "final", "aux_head_realigned", 0.62, len(totals), 0.2),
        *(_personal(rng, r, s, m, names) for s, m in (("final", 0.74), ("realigned", 0.78), ("finetuned", 0.8))),
        {"event": "norms", "round": r, "heads": {name: norms.tolist() for name, norms in heads.items()}},
        {"event": "summary", "rounds": r},
    ]


def _generic(
    rng: np.random.Generator, r: int, stage: str, head: str, mean: float, num_classes: int, slope: float
) -> dict[str, Any]:
    noise = rng.normal(0, 0.08, num_classes)
    values = np.clip(mean + slope * (0.5 - np.arange(num_classes) / num_classes) + noise, 0, 1)
    figures = {
        "accuracy": mean,
        "balanced_accuracy": mean,
        "many": mean + 0.2,
        "medium": mean,
        "few": mean - 0.2,
    }
    return {
        "event": "generic",
        "round": r,
        "stage": stage,
        "head": head,
        **figures,
        "per_class": [None, *values.tolist()[1:]],
    }


def _personal(rng: np.random.Generator, r: int, stage: str, mean: float, names: list[str]) -> dict[str, Any]:
    values = np.clip(rng.normal(mean, 0.08, len(names)), 0, 1)
    sites = {n: {"accuracy": float(v), "num_test": 40 + k} for k, (n, v) in enumerate(zip(names, values, strict=True))}
    figures = {"mean": float(values.mean()), "std": float(values.std()), "worst": float(values.min())}
    worst = names[int(values.argmin())]
    return {"event": "personal", "round": r, "stage": stage, **figures, "worst_site": worst, "sites": sites}


def keep_events(folder: Path, keep: Any) -> None:
    """Rewrite metrics.jsonl with the events that `keep` accepts."""
    path = folder / "metrics.jsonl"
    lines = [line for line in path.read_text().splitlines() if keep(json.loads(line))]
    path.write_text("\n".join(lines))


def report(folder: Path) -> tuple[str, Page]:
    html = write_report(folder).read_text(encoding="utf-8")
    page = Page(html)
    assert [heading.split(". ", 1)[1] for heading in page.headings] == list(SECTIONS)
    assert not re.search(r"\bnan\b|\binf\b|Infinity", " ".join([page.text, html.split("</style>")[1]]))
    return html, page


def test_complete_run_shows_every_section_and_figure(tmp_path: Path) -> None:
    html, page = report(write_run(tmp_path))
    charts = [attrs for tag, attrs in page.tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(charts) == 7
    assert all(attrs["aria-label"] for attrs in charts)
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption")
    assert tags.count("h1") == 1
    for words in (
        "62.0 %",
        "head ψ realigned",
        "after fine-tuning",
        "test-selected",
        "GA-FR",
        "LA-FR",
        "seed: 7",
    ):
        assert words in page.text
    assert "only because this is a simulation" in page.text
    assert "Form of the local test (local-test): keep-classes" in page.text
    assert "not finished" not in page.text
    assert f"{ideal_angle(10):.4f}" in page.text
    assert html.startswith("<!DOCTYPE html>")


def test_nothing_is_requested_from_outside(tmp_path: Path) -> None:
    html, page = report(write_run(tmp_path))
    names = [tag for tag, _ in page.tags]
    assert not {"script", "img", "iframe", "object", "embed"} & set(names)
    for _, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attrs.get(key) or "#").startswith(("#", "data:"))
    assert not re.search(r"@import|@font-face|url\(", html)


@pytest.mark.parametrize(("num_classes", "num_sites"), [(2, 1), (100, 40), (300, 90)])
def test_other_sizes(tmp_path: Path, num_classes: int, num_sites: int) -> None:
    html, page = report(write_run(tmp_path, num_classes, num_sites, rounds=3))
    assert len(html) < 4_000_000
    assert ("60 of the 90 sites" in page.text) == (num_sites == 90)


def test_personal_arrival_stands_one_round_earlier(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, rounds=12))
    rounds = {int(tip.split(", ")[1].split(":")[0]) for tip in page.tooltips if re.match(r"personal, \d", tip)}
    assert rounds == set(range(13))  # arrivals of rounds 1..12 at 0..11, the final figure at 12


def test_text_from_the_run_is_escaped(tmp_path: Path) -> None:
    evil = "<script>alert('x')</script>&\"'"
    write_run(tmp_path)
    for name in ("config", "federation"):
        value = json.loads((tmp_path / f"{name}.json").read_text())
        value.update({"name": evil, "run-name": evil, "method": evil, "dataset": evil, evil: evil})
        if name == "federation":
            value["classes"][0] = value["site_names"][0] = evil
        _dump(tmp_path, **{name: value})
    _dump(tmp_path, versions={evil: evil}, frame={evil: evil})
    html, page = report(tmp_path)
    assert "<script" not in html
    assert evil in page.text


def test_run_that_stopped_reports_its_last_evaluation(tmp_path: Path) -> None:
    write_run(tmp_path)
    keep_events(tmp_path, lambda e: e["round"] <= 5 and e.get("stage") != "final" if "round" in e else False)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('\n{"event": "round", "rou')  # the machine went down while it wrote
    _, page = report(tmp_path)
    assert "reached round 5 of 12" in page.text
    assert "last evaluation" in page.text
    assert "1 line(s) of metrics.jsonl" in page.text
    assert "on arrival" in page.text


@pytest.mark.parametrize("missing", ["config", "versions", "frame", "federation", "metrics"])
def test_missing_file(tmp_path: Path, missing: str) -> None:
    write_run(tmp_path)
    next(tmp_path.glob(f"{missing}.json*")).unlink()
    _, page = report(tmp_path)
    assert (f"{missing}.json" in page.text) == (missing != "frame")


def test_empty_folder(tmp_path: Path) -> None:
    report(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run's folder"):
        write_report(tmp_path / "nowhere")


def test_no_personal_figures_no_norms(tmp_path: Path) -> None:
    write_run(tmp_path)
    keep_events(tmp_path, lambda e: e["event"] not in ("personal", "norms"))
    _, page = report(tmp_path)
    assert "No accuracy of the sites was recorded." in page.text


def test_broken_files_and_unknown_figures(tmp_path: Path) -> None:
    write_run(tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text()
    lines = re.sub(r'"(mean|std|worst|few|backbone|seconds|bytes_up|accuracy)": [0-9.e+-]+', r'"\1": NaN', lines)
    lines = re.sub(r'"(balanced_accuracy|many)": [0-9.e+-]+', r'"\1": null', lines)
    (tmp_path / "metrics.jsonl").write_text(lines)
    (tmp_path / "versions.json").write_text('{"torch": ')
    _dump(tmp_path, frame={"angle_mean": float("nan"), "norm_mean": None})
    _, page = report(tmp_path)
    assert "versions.json is not readable" in page.text


def test_sites_that_do_not_disclose_their_labels(tmp_path: Path) -> None:
    write_run(tmp_path)
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["simulated"] = False
    _dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "do not disclose" in page.text
    assert "only because this is a simulation" not in page.text
    assert not any("kind 0: 500 training images" in tip for tip in page.tooltips)


def test_paper_form_of_the_local_test_is_named(tmp_path: Path) -> None:
    _, page = report(write_run(tmp_path, **{"local-test": "paper"}))
    assert "int(n_kc / N · n_test)" in page.text


def test_a_method_without_frame_or_personal_part_is_told_in_its_own_words(tmp_path: Path) -> None:
    write_run(tmp_path, method="fedavg")
    (tmp_path / "frame.json").unlink()
    keep_events(tmp_path, lambda e: e.get("head") in (None, "aux_head") and e.get("stage") != "realigned")
    path = tmp_path / "metrics.jsonl"
    path.write_text(re.sub(r', "(aux|personal)_head": [\d.]+', "", path.read_text()))
    path.write_text(re.sub(r', "(aux_head_realigned|frame)": \[[^]]*\]', "", path.read_text()))
    _, page = report(tmp_path)
    assert "This method has no fixed frame." in page.text
    assert "after training (the generic model)" in page.text
    assert "after training, before fine-tuning" in page.text
    assert "backbone θ and head ψ" in page.text
    assert not [words for words in ("GA-FR", "LA-FR", "Fixed frame W", "by frame W") if words in page.text]


def test_natural_sites_are_tested_on_their_own_images(tmp_path: Path) -> None:
    write_run(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    _dump(tmp_path, config={**config, "dataset": "npz", "data-dir": "/data/skin.npz", "partition": "natural"})
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["num_test"] = sum(map(sum, federation["test_counts"]))
    _dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "those of all sites together" in page.text
    assert "Each site is measured on its own test images." in page.text
    assert "local-test)" not in page.text
    assert "data set: skin.npz" in page.text


def test_share_of_the_most_frequent_class_stands_beside_personal_accuracy(tmp_path: Path) -> None:
    write_run(tmp_path, num_classes=2, num_sites=2)
    federation = json.loads((tmp_path / "federation.json").read_text())
    federation["test_counts"] = [[9, 1], [3, 3]]
    _dump(tmp_path, federation=federation)
    _, page = report(tmp_path)
    assert "gets right; mean over sites 70.0 %" in page.text
    assert "90.0 %" in page.text


def test_every_rejected_reply_is_told(tmp_path: Path) -> None:
    write_run(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        for site in ("site-01", "site-02"):
            file.write(json.dumps({"event": "rejected", "round": 3, "site": site, "reason": f"{site} sent NaN"}) + "\n")
    _, page = report(tmp_path)
    assert "2 replies of sites could not be used" in page.text
    assert "site-01 sent NaN" in page.text and "site-02 sent NaN" in page.text


def test_a_resumed_run_counts_a_repeated_round_once(tmp_path: Path) -> None:
    write_run(tmp_path, rounds=3)
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() * 2)
    assert len(read_run(tmp_path).of("round")) == 3


def test_classes_are_ordered_by_count_and_heads_by_table(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert run.class_order == list(range(10))
    assert run.heads == ["aux_head", "aux_head_realigned", "frame"]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6))
def test_nice_ticks_lie_within_and_are_even(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert 2 <= len(ticks) <= 11
    assert all(low - 1e-6 * span <= t <= low + span * (1 + 1e-6) for t in ticks)


@given(st.floats(1e-6, 1e6), st.floats(2, 1e6))
def test_log_ticks_ascend_within(low: float, factor: float) -> None:
    ticks = log_ticks(low, low * factor)
    assert ticks == sorted(ticks)
    assert all(low * 0.99 <= t <= low * factor * 1.01 for t in ticks)


@given(st.lists(st.floats(-1e9, 1e9), max_size=9))
def test_value_axis_holds_its_values(values: list[float]) -> None:
    axis = value_axis(values, 300, 20)
    assert axis.low < axis.high
    slack = 1e-6 * (axis.high - axis.low)
    assert all(axis.low - slack <= v <= axis.high + slack for v in values)
    assert all(20 <= axis.at(v) <= 300 for v in values)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_count_axis_draws_zero(counts: list[int]) -> None:
    axis = count_axis(counts, 0, 100)
    assert all(0 <= axis.at(n) <= 100 for n in counts)
    assert ((0.5, "0") in count_ticks(axis)) == (0 in counts)


@given(st.lists(st.floats(0, 300), max_size=12))
def test_labels_keep_their_distance(wanted: list[float]) -> None:
    places = spread_labels(sorted(wanted), 17, 20, 300)
    assert all(b - a >= 17 - 1e-6 for a, b in pairwise(places))


@given(st.integers(1, 2000))
def test_ranks_and_shades(count: int) -> None:
    ticks = rank_ticks(count)
    assert ticks[0] == 1
    assert ticks == sorted(set(ticks))
    assert ticks[-1] <= count
    assert 0 < shade_of(1, count) <= shade_of(count, count) <= 1


def test_axis_is_exact_at_its_ends() -> None:
    assert Axis(1, 100, 10, 210, log=True).at(10) == 110
    assert Axis(0, 1, 300, 20).at(0.5) == 160


def test_gap_in_the_figures_is_a_gap_in_the_curve() -> None:
    chart = line_chart([Series("a", [(0, 0.1), (1, None), (2, 0.2), (3, 0.3)], 0)], "x", "y", "label")
    assert re.search(r'd="M[\d. ]+M[\d. ]+L[\d. ]+"', chart)


def test_ideal_angle_is_that_of_a_simplex() -> None:
    assert ideal_angle(2) == pytest.approx(180)
    assert ideal_angle(3) == pytest.approx(120)
    assert ideal_angle(100) == pytest.approx(math.degrees(math.acos(-1 / 99)))


def test_units() -> None:
    assert [size(n) for n in (0, 999, 1_500, 2.5e9, 3e15, None)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "2.5 GB",
        "3,000.0 TB",
        "–",
    ]
    assert [duration(s) for s in (0.25, 61, 3_720, float("nan"))] == ["0.2 s", "1 min 1 s", "1 h 2 min", "–"]


def test_evenly_keeps_both_ends() -> None:
    assert evenly(range(5), 9) == [0, 1, 2, 3, 4]
    few = evenly(range(100), 7)
    assert len(few) == len(set(few)) == 7
    assert few[0] == 0 and few[-1] == 99


def test_a_site_without_test_images_stands_last(tmp_path: Path) -> None:
    write_run(tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for event in lines:
        if event["event"] == "personal":
            event["sites"]["site-00"] = {"accuracy": None, "num_test": 0}
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, page = report(tmp_path)
    bars = [tip for tip in page.tooltips if re.match(r"site-\d+: ", tip)]
    assert bars[-1] == "site-00: – of 0 images"
