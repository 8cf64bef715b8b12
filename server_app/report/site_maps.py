"""Sites by classes, as maps: how well each site's model knows each class, and how many images it had of it."""

from collections.abc import Sequence
from statistics import mean
from typing import TypeVar

from server_app.report.blocks import Block, Heading, Note, Paragraph, figure
from server_app.report.charts import heatmap, share_map
from server_app.report.headline import STAGES
from server_app.report.record import RunRecord, at
from server_app.report.words import metric_names_of

MOST_SITES = 60  # a chart of more sites shows so many of them, evenly spaced
_MOST_CLASSES = 120  # a map of more classes has neighbours in rank in one column
T = TypeVar("T")


def by_class(run: RunRecord, stage: str) -> list[Block]:
    """Return the map of a stage's metric in each class at each site that reports it; nothing where none does."""
    reported = run.site_class_accuracy(stage)
    if not reported or not run.classes:
        return []
    order = dict.fromkeys([*run.site_names, *reported])
    rows = evenly([(site, reported[site]) for site in order if site in reported], MOST_SITES)
    columns = _columns(run)
    cells = [[_mean([at(row, c, None) for c in group]) for group in columns] for _, row in rows]
    short = metric_names_of(run).short
    title = f"{short[0].upper()}{short[1:]} in each class at each site"
    names = [site for site, _ in rows]
    chart = share_map(
        "sites-by-class", names, _titles(run, columns), cells, title, what=short, zeros=not run.multilabel
    )
    merged = f" A column is the mean of up to {len(columns[0])} classes." if len(columns[0]) > 1 else ""
    blank = "the class has no AUC" if run.multilabel else "there is no test image of the class"
    zero = "" if run.multilabel else "another one is none right, "
    caption = (
        f"Each site's personal model {STAGES[stage]}, on the site's own test images; classes from most to fewest "
        f"images over all sites, a stronger colour is more, {zero}blank where {blank}."
    )
    return [Heading(title), *figure(chart, caption + merged + left_out(len(reported)))]


def label_distribution(run: RunRecord) -> list[Block]:
    """Return the map of training images, which only a simulation knows."""
    if not run.simulated:
        return [Note("The sites do not disclose their label distributions: only a simulation knows them.")]
    if not run.train_counts or not run.classes:
        return [Paragraph("No label distribution was recorded.")]
    names, columns = run.site_names, _columns(run)
    rows = evenly(list(zip(names, run.train_counts, strict=False)), MOST_SITES)
    cells = [[sum(row[c] for c in group if c < len(row)) for group in columns] for _, row in rows]
    title, shown = "Training images of each class at each site", [name for name, _ in rows]
    chart = heatmap("sites-labels", shown, _titles(run, columns), cells, title, metric_names_of(run).unit)
    merged = f" A column adds up {len(columns[0])} classes." if len(columns[0]) > 1 else ""
    several = " An image counts once for each of its labels that is not hidden there." if run.multilabel else ""
    caption = (
        f"{title}; classes from most to fewest images over all sites, a stronger colour is more (log scale), "
        "blank is none."
    )
    return [
        Note("This distribution is known only because this is a simulation: real sites do not disclose it."),
        *figure(chart, caption + several + merged + left_out(len(names))),
    ]


def left_out(count: int) -> str:
    """Return which of so many sites a chart shows, if not all of them."""
    return "" if count <= MOST_SITES else f" Shown are {MOST_SITES} of the {count} sites, evenly spaced."


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most `most` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / (most - 1))] for i in range(most)]


def _columns(run: RunRecord) -> list[list[int]]:
    """The classes of each column, from most to fewest images: one, or neighbours where there are many."""
    size = -(-len(run.class_order) // _MOST_CLASSES)
    return [run.class_order[i : i + size] for i in range(0, len(run.class_order), size)]


def _titles(run: RunRecord, columns: Sequence[Sequence[int]]) -> list[str]:
    return [", ".join(run.classes[c] for c in group) for group in columns]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None
