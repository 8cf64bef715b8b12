"""The charts of a comparison: what each method has, mean and spread over seeds."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import fmean, stdev
from typing import Any

from server_app.compare.tables import Entry, score, trained_curve
from server_app.report.blocks import Block, Heading, Paragraph, figure
from server_app.report.charts import Series, line_chart
from server_app.report.charts.dots import dot_chart
from server_app.report.charts.lines import FEW
from server_app.report.charts.plane import Point, plane_chart
from server_app.report.record import GROUPS

Curve = list[list[float]]  # [round, accuracy]


def shots(entries: Sequence[Entry], names: Sequence[str]) -> list[Block]:
    """Return accuracy on classes with many, medium and few images."""
    judged = [(name, entry) for name, entry in zip(names, entries, strict=True) if entry.method.reported_head]
    series = []
    for style, group in enumerate(GROUPS):
        values = [_known(_generic(result, entry, group) for result in entry.found) for _, entry in judged]
        points = [(float(i), fmean(known) if known else None) for i, known in enumerate(values)]
        series.append(Series(group, points, style, band=[_band(known) for known in values]))
    label = "Accuracy on classes with many, medium and few images"
    chart = dot_chart("accuracy-by-group", [name for name, _ in judged], series, label)
    caption = (
        "Accuracy of the generic model, by the head that the method is judged by, on the classes with many training "
        "images (together the first 75 % of all images), a medium number (the next 20 %) and few (the last 5 %)."
    )
    words = _over_seeds([entry for _, entry in judged], [name for name, _ in judged], "Lines")
    return figure(chart, f"{caption} {words}") or [Paragraph("No method here has a generic model.")]


def curves(entries: Sequence[Entry], names: Sequence[str]) -> list[Block]:
    """Return accuracy by round, generic and personal."""
    judged = [i for i, entry in enumerate(entries) if entry.method.reported_head]
    generic = [
        _series(names[i], [r["curves"].get(entries[i].method.reported_head) for r in entries[i].found], i)
        for i in judged
    ]
    personal = [
        _series(names[i], [trained_curve(result, entry) for result in entry.found], i)
        for i, entry in enumerate(entries)
    ]
    words = (
        "The evaluation before the first round is left out. Sites measure the model that arrives, so a personal metric "
        "is that of the sites that took part in the next round; the last one is of all sites, before any realignment "
        "or fine-tuning. Axes need not begin at zero. Point at a curve or its name to see it alone."
    )
    shown = [entries[i] for i in judged], [names[i] for i in judged]
    return [
        *_curves("generic-by-round", "Generic model", generic, "balanced accuracy", *shown),
        *_curves("personal-by-round", "Personal models", personal, "plain accuracy, mean over sites", entries, names),
        Paragraph(words),
    ]


def planes(entries: Sequence[Entry], names: Sequence[str]) -> list[Block]:
    """Return generic against personal accuracy, after training and after fine-tuning."""
    words = (
        "The generic model of the last round (balanced accuracy, by the head that the method is judged by) against the "
        "personal models (plain accuracy, mean over sites)."
    )
    realigned = "after training, realigned where the method realigns"
    return [
        Paragraph(words),
        *_plane("generic-and-personal-trained", entries, names, realigned, ("realigned", "final")),
        *_plane("generic-and-personal-fine-tuned", entries, names, "after fine-tuning", ("finetuned",)),
    ]


def by_round(curves: Sequence[Curve | None]) -> list[tuple[float, list[float]]]:
    """Return (round, accuracy of each seed) where every seed was measured, without what was there before training."""
    found: dict[float, list[float]] = defaultdict(list)
    for curve in curves:
        for server_round, accuracy in curve or ():
            found[float(server_round)].append(accuracy)
    return [(r, values) for r, values in sorted(found.items()) if r > 0 and len(values) == len(curves)]


def _series(name: str, found: Sequence[Curve | None], style: int) -> Series:
    """Return a curve of means with its band."""
    rounds = by_round(found)
    band = [_band(values) for _, values in rounds] if len(found) > 1 else ()
    return Series(name, [(r, fmean(values)) for r, values in rounds], style, band=band)


def _curves(
    name: str, title: str, series: Sequence[Series], y_label: str, entries: Sequence[Entry], names: Sequence[str]
) -> list[Block]:
    label = f"{title}: accuracy by round"
    chart = line_chart(name, series, "round", y_label, label, percent=True, close=True)
    many = sum(bool(one.known) for one in series) > FEW
    words = _over_seeds(entries, names, "The band of the curve that you point at" if many else "Bands")
    return [Heading(title), *figure(chart, words)] if chart else []


def _plane(name: str, entries: Sequence[Entry], names: Sequence[str], when: str, stages: Sequence[str]) -> list[Block]:
    points = []
    for style, (title, entry) in enumerate(zip(names, entries, strict=True)):
        x = _known(_generic(result, entry) for result in entry.found)
        y = _known(_personal(result, stages) for result in entry.found)
        if y:
            points.append(Point(title, fmean(x) if x else None, fmean(y), _deviation(x), _deviation(y), style))
    label = f"Personal models {when}"
    chart = plane_chart(
        name, points, "generic, balanced accuracy", "personal, plain accuracy", label, no_x="no generic model"
    )
    heading = when.split(",")[0]
    words = f"{label}. {_over_seeds(entries, names, 'Lines')}"
    return [Heading(heading[:1].upper() + heading[1:]), *figure(chart, words)] if chart else []


def _over_seeds(entries: Sequence[Entry], names: Sequence[str], marks: str) -> str:
    """Say over how many seeds each name's mean is, and what the marks of spread are."""
    by_count: dict[int, list[str]] = defaultdict(list)
    for entry, name in zip(entries, names, strict=True):
        by_count[len(entry.found)].append(name)
    words = [f"{count} seed{'s' * (count > 1)} ({', '.join(them)})" for count, them in sorted(by_count.items())]
    if len(words) == 1:
        words = [words[0].split(" (")[0]]
    mean = f"Mean over {'; '.join(reversed(words))}."
    if not by_count or max(by_count) == 1:
        return f"{mean} One seed has no spread."
    single = ", none with one seed" if 1 in by_count else ""
    return f"{mean} {marks}: ± one sample standard deviation over seeds{single}."


def _generic(result: dict[str, Any], entry: Entry, key: str = "") -> float | None:
    """A metric of the head that the method is judged by, the primary one without a key."""
    metrics = result["summary"]["generic"].get(entry.method.reported_head)
    if not metrics:
        return None
    value: float | None = metrics.get(key) if key else score(metrics)
    return value


def _personal(result: dict[str, Any], stages: Sequence[str]) -> float | None:
    """The mean over sites of the first of these stages that the run has."""
    found = [result["summary"]["personal"][stage]["mean"] for stage in stages if stage in result["summary"]["personal"]]
    return found[0] if found else None


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _band(values: Sequence[float]) -> tuple[float, float] | None:
    """One sample standard deviation around the mean; None with fewer than two values."""
    if len(values) < 2:
        return None
    return fmean(values) - stdev(values), fmean(values) + stdev(values)
