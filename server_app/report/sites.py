"""Section 7: each site's accuracy or AUC, test images and label distribution."""

from collections.abc import Sequence
from statistics import mean
from typing import TypeVar

from server_app.report.charts import Bar, bar_chart
from server_app.report.headline import STAGES
from server_app.report.heatmaps import heatmap
from server_app.report.page import DASH, details, figure, note, paragraph, percent, plain, table
from server_app.report.partition import local_test, partition
from server_app.report.record import Event, RunRecord, number, sites_of
from server_app.report.words import METRIC_TITLES, metric_names_of

_MOST_SITES = 60  # a chart of more sites shows so many of them, evenly spaced
_MOST_CLASSES = 120  # a heat map of more classes adds up neighbours in rank
_STEPS = {"realigned": "realignment", "finetuned": "fine-tuning"}
T = TypeVar("T")

_SHARE = "A site's test images are a share of the test set with the proportions of its own training labels"
_LOCAL_TEST = {
    "keep-classes": f"{_SHARE}; each class that it trains on and that has test images keeps at least one.",
    "paper": (
        f"{_SHARE}, rounded down as in the FedLoGe paper, int(n_kc / N · n_test): classes that are rare at a "
        "site then have no test image there, which makes its test easier."
    ),
}


def sites(run: RunRecord) -> str:
    """Return the accuracy of every site and, in a simulation, the label distributions."""
    parts = [_test_form(run)]
    stages = [stage for stage in STAGES if run.personal(stage)] or ["arrival"]
    metrics = {stage: sites_of(run.personal(stage)) for stage in stages}
    if any(metrics.values()):
        parts += [_bars(run, stages, metrics), _table(run, stages, metrics)]
    else:
        parts.append(paragraph(f"No {metric_names_of(run).short} of the sites was recorded."))
    parts += [partition(run)] if run.multilabel else []
    return "".join(parts) + "<h3>Labels at each site</h3>" + _labels(run)


def _test_form(run: RunRecord) -> str:
    masked = ""
    if run.config.get("mask-classes") == "train":
        masked = " A personal model never answers with a class that its site has no training image of."
    if run.multilabel:
        return paragraph(local_test(run) + masked)
    form = run.config.get("local-test")
    meaning = _LOCAL_TEST.get(str(form))
    if not run.simulated or meaning is None:
        return paragraph("Each site is measured on its own test images." + masked)
    if run.sites_own_tests:
        words = "The data set says which test images are a site's own; all of them together are the coordinator's."
        return paragraph(f"Each site is measured on its own test images. {words}{masked}")
    words = f"Form of the local test (local-test): {form}. {meaning}"
    return paragraph(words + masked)


def _bars(run: RunRecord, stages: list[str], metrics: dict[str, dict[str, Event]]) -> str:
    last, first, key = stages[-1], stages[0], metric_names_of(run).site_key
    known = {site: number(event.get(key)) for site, event in metrics[last].items()}
    ranked = sorted(known, key=lambda site: 2.0 if (share := known[site]) is None else share)  # unknown: last
    bars = []
    for site in evenly(ranked, _MOST_SITES):
        event = metrics[last][site]
        images = f"{plain(event.get('num_test'), ',.0f')} images"
        words = f"{percent(event.get(key))}{', ' if run.multilabel else ' of '}{images}"
        notch = number(metrics[first].get(site, {}).get(key)) if first != last else None
        bars.append(Bar(site, known[site], words, notch))
    name = STAGES.get(last, "on arrival, the last time")
    chart = bar_chart(
        bars,
        f"{_metric_name(run)} of each site's personal model, {name}",
        f"{STAGES.get(first, first)}, before {' and '.join(_STEPS[s] for s in stages[1:] if s in _STEPS)}",
    )
    plainly = "Macro AUC" if run.multilabel else "Plain accuracy"
    caption = f"{plainly} of each site's personal model, {name}, worst first, with the number of its test images."
    return figure(chart, caption + _left_out(len(ranked)))


def _metric_name(run: RunRecord) -> str:
    return "Macro AUC" if run.multilabel else "Accuracy"


def _table(run: RunRecord, stages: list[str], metrics: dict[str, dict[str, Event]]) -> str:
    names = list(dict.fromkeys([*run.site_names, *(site for stage in stages for site in metrics[stage])]))
    train = dict(zip(run.site_names, run.train_counts, strict=False))
    test = dict(zip(run.site_names, run.test_counts, strict=False))
    key, others = metric_names_of(run).site_key, METRIC_TITLES if run.multilabel else {}
    rows = []
    for site in names:
        tested = next((metrics[s][site].get("num_test") for s in stages if site in metrics[s]), None)
        counts = train.get(site)
        known = [f"{sum(counts):,.0f}", str(sum(n > 0 for n in counts))] if counts else [DASH, DASH]
        accuracies = [percent(metrics[s].get(site, {}).get(key)) for s in stages]
        last = metrics[stages[-1]].get(site, {})
        more = [plain(last.get(f), ".0f") if f == "undefined_auc" else percent(last.get(f)) for f in others]
        rows.append([site, *known, plain(tested, ",.0f"), *_baseline(run, test.get(site)), *accuracies, *more])
    stage_names = [STAGES.get(stage, "on arrival") for stage in stages]
    header = [
        "Site",
        f"Training {metric_names_of(run).unit}",
        "Classes present",
        "Test images",
        *(["Most frequent class"] if _has_baseline(run) else []),
        *(s.capitalize() for s in stage_names),
        *others.values(),
    ]
    caption = "Personal accuracy of each site (plain)"
    if run.multilabel:
        caption = f"Personal macro AUC of each site; the other figures are {stage_names[-1]}"
    body = table(caption, header, rows, dense=run.multilabel)
    shown = body if len(rows) <= 12 else details(f"All {len(rows)} sites as a table", body)
    shares = [max(row) / sum(row) for row in run.test_counts if sum(row)] if _has_baseline(run) else []
    if not shares:
        return shown
    words = (
        "Most frequent class: share of the site's test images that belong to its most frequent class, which a "
        f"model that always answers with that class gets right; mean over sites {percent(mean(shares))}."
    )
    return paragraph(words) + shown


def _has_baseline(run: RunRecord) -> bool:
    return bool(run.test_counts) and not run.multilabel


def _baseline(run: RunRecord, counts: list[float] | None) -> list[str]:
    """The share of a site's most frequent test class, as a column; no column where sites do not disclose it."""
    if not _has_baseline(run):
        return []
    return [percent(max(counts) / sum(counts)) if counts and sum(counts) else DASH]


def _labels(run: RunRecord) -> str:
    if not run.simulated:
        return note("The sites do not disclose their label distributions: only a simulation knows them.")
    if not run.train_counts or not run.classes:
        return paragraph("No label distribution was recorded.")
    names, counts = run.site_names, run.train_counts
    rows = evenly(list(zip(names, counts, strict=False)), _MOST_SITES)
    columns = [[c] for c in run.class_order]
    if len(columns) > _MOST_CLASSES:
        size = -(-len(columns) // _MOST_CLASSES)
        columns = [run.class_order[i : i + size] for i in range(0, len(columns), size)]
    titles = [", ".join(run.classes[c] for c in group) for group in columns]
    cells = [[sum(row[c] for c in group if c < len(row)) for group in columns] for _, row in rows]
    title = "Training images of each class at each site"
    chart = heatmap([name for name, _ in rows], titles, cells, title, metric_names_of(run).unit)
    merged = f" A column adds up {len(columns[0])} classes." if len(columns[0]) > 1 else ""
    several = " An image counts once for each of its labels that is not hidden there." if run.multilabel else ""
    return note(
        "This distribution is known only because this is a simulation: real sites do not disclose it."
    ) + figure(
        chart,
        "Training images of each class at each site; classes from most to fewest images over all sites, a "
        "stronger colour is more (log scale), blank is none." + several + merged + _left_out(len(names)),
    )


def _left_out(count: int) -> str:
    return "" if count <= _MOST_SITES else f" Shown are {_MOST_SITES} of the {count} sites, evenly spaced."


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]
