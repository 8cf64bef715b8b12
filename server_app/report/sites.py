"""Section 7: each site's accuracy or AUC, test images and label distribution."""

from statistics import mean

from server_app.report.blocks import Block, Details, Heading, Paragraph, Table, figure
from server_app.report.charts import Bar, bar_chart
from server_app.report.headline import STAGES
from server_app.report.page import DASH, percent, plain
from server_app.report.partition import local_test, partition
from server_app.report.record import Event, RunRecord, number, sites_of
from server_app.report.site_maps import MOST_SITES, by_class, evenly, label_distribution, left_out
from server_app.report.words import METRIC_TITLES, metric_names_of, unrecorded

_STEPS = {"realigned": "realignment", "finetuned": "fine-tuning"}

_SHARE = "A site's test images are a share of the test set with the proportions of its own training labels"
_LOCAL_TEST = {
    "keep-classes": f"{_SHARE}; each class that it trains on and that has test images keeps at least one.",
    "paper": (
        f"{_SHARE}, rounded down as in the FedLoGe paper, int(n_kc / N · n_test): classes that are rare at a "
        "site then have no test image there, which makes its test easier."
    ),
}


def sites(run: RunRecord) -> list[Block]:
    """Return the accuracy of every site, by class where it is known, and, in a simulation, the label distributions."""
    blocks: list[Block] = [_test_form(run)]
    stages = [stage for stage in STAGES if run.personal(stage)] or ["arrival"]
    metrics = {stage: sites_of(run.personal(stage)) for stage in stages}
    if any(metrics.values()):
        blocks += [*_bars(run, stages, metrics), *_table(run, stages, metrics)]
    else:
        blocks += unrecorded(run, f"No {metric_names_of(run).short} of the sites was recorded.")
    blocks += by_class(run, stages[-1])
    blocks += partition(run) if run.multilabel else []
    return [*blocks, Heading("Labels at each site"), *label_distribution(run)]


def _test_form(run: RunRecord) -> Block:
    masked = ""
    if run.config.get("mask-classes") == "train":
        masked = " A personal model never answers with a class that its site has no training image of."
    if run.multilabel:
        return Paragraph(local_test(run) + masked)
    form = run.config.get("local-test")
    meaning = _LOCAL_TEST.get(str(form))
    if not run.simulated or meaning is None:
        return Paragraph("Each site is measured on its own test images." + masked)
    if run.sites_own_tests:
        words = "The data set says which test images are a site's own; all of them together are the coordinator's."
        return Paragraph(f"Each site is measured on its own test images. {words}{masked}")
    words = f"Form of the local test (local-test): {form}. {meaning}"
    return Paragraph(words + masked)


def _bars(run: RunRecord, stages: list[str], metrics: dict[str, dict[str, Event]]) -> list[Block]:
    last, first, key = stages[-1], stages[0], metric_names_of(run).site_key
    known = {site: number(event.get(key)) for site, event in metrics[last].items()}
    ranked = sorted(known, key=lambda site: 2.0 if (share := known[site]) is None else share)  # unknown: last
    bars = []
    for site in evenly(ranked, MOST_SITES):
        event = metrics[last][site]
        images = f"{plain(event.get('num_test'), ',.0f')} images"
        words = f"{percent(event.get(key))}{', ' if run.multilabel else ' of '}{images}"
        notch = number(metrics[first].get(site, {}).get(key)) if first != last else None
        bars.append(Bar(site, known[site], words, notch, run.majority_shares.get(site)))
    name = STAGES.get(last, "on arrival, the last time")
    chart = bar_chart(
        "sites",
        bars,
        f"{_metric_name(run)} of each site's personal model, {name}",
        f"{STAGES.get(first, first)}, before {' and '.join(_STEPS[s] for s in stages[1:] if s in _STEPS)}",
        "always the site's most frequent class",
        guess=0.5 if run.multilabel else None,
    )
    plainly = "Macro AUC" if run.multilabel else "Plain accuracy"
    caption = f"{plainly} of each site's personal model, {name}, worst first, with the number of its test images."
    return figure(chart, caption + left_out(len(ranked)))


def _metric_name(run: RunRecord) -> str:
    return "Macro AUC" if run.multilabel else "Accuracy"


def _table(run: RunRecord, stages: list[str], metrics: dict[str, dict[str, Event]]) -> list[Block]:
    names = list(dict.fromkeys([*run.site_names, *(site for stage in stages for site in metrics[stage])]))
    train = dict(zip(run.site_names, run.train_counts, strict=False))
    key, others = metric_names_of(run).site_key, METRIC_TITLES if run.multilabel else {}
    if any("balanced_accuracy" in event for event in metrics[stages[-1]].values()):
        others = {"balanced_accuracy": f"Balanced, {STAGES.get(stages[-1], 'on arrival')}"}
    rows = []
    for site in names:
        tested = next((metrics[s][site].get("num_test") for s in stages if site in metrics[s]), None)
        counts = train.get(site)
        known = [f"{sum(counts):,.0f}", str(sum(n > 0 for n in counts))] if counts else [DASH, DASH]
        baseline = [percent(run.majority_shares.get(site))] if run.majority_shares else []
        accuracies = [percent(metrics[s].get(site, {}).get(key)) for s in stages]
        last = metrics[stages[-1]].get(site, {})
        more = [plain(last.get(f), ".0f") if f == "undefined_auc" else percent(last.get(f)) for f in others]
        rows.append(
            [
                site,
                *known,
                plain(tested, ",.0f"),
                *baseline,
                *accuracies,
                *more,
            ]
        )
    stage_names = [STAGES.get(stage, "on arrival") for stage in stages]
    header = [
        "Site",
        f"Training {metric_names_of(run).unit}",
        "Classes present",
        "Test images",
        *(["Most frequent class"] if run.majority_shares else []),
        *(s.capitalize() for s in stage_names),
        *others.values(),
    ]
    balanced = "; balanced: mean over the classes that it tests on" if others else ""
    caption = f"Personal accuracy of each site (plain{balanced})"
    if run.multilabel:
        caption = f"Personal macro AUC of each site; the other metrics are {stage_names[-1]}"
    table = Table(caption, header, rows, dense=run.multilabel)
    shown = table if len(rows) <= 12 else Details(f"All {len(rows)} sites as a table", [table])
    if not run.majority_shares:
        return [shown]
    share = percent(mean(run.majority_shares.values()))
    words = (
        "Most frequent class: share of the site's test images that belong to its most frequent class, which a "
        f"model that always answers with that class gets right; mean over sites {share}."
    )
    return [Paragraph(words), shown]
