"""Section 4: each class's accuracy or AUC beside its count, before and after realignment."""

from server_app.report.blocks import Block, Details, Table, figure
from server_app.report.charts import Chart, Classes, Series, by_class_chart
from server_app.report.headline import head_name, reported_generic
from server_app.report.page import DASH, percent, plain
from server_app.report.record import RunRecord, at, numbers
from server_app.report.rounds import STYLE
from server_app.report.words import metric_names_of, unrecorded


def per_class(run: RunRecord) -> list[Block]:
    """Return the chart of counts and accuracies by class, and the same as a table; nothing without generic heads."""
    if run.finished and not run.heads:
        return []
    series = _series(run)
    if not run.classes or not series:
        return unrecorded(run, f"No {metric_names_of(run).short} by class was recorded.")
    below = (
        "AUC of the class" if run.multilabel else "share of the class's test images that the generic model gets right"
    )
    words = (
        "Classes from most to fewest training images. Above: images of the class over all sites (log scale). "
        f"Below: {below}; horizontal lines are the means of the classes with many, medium and few images."
    )
    if not run.class_counts:
        words = "Classes in their own order, since the sites do not disclose how many images each has."
    words += " The dashed line at 50 % is guessing; a class without a mark has no AUC." if run.multilabel else ""
    return [*figure(_chart(run, series), words), _table(run, series)]


def _series(run: RunRecord) -> list[Series]:
    """Before and after realignment or re-training where both exist, else whichever heads were evaluated."""
    # realignment changes no class's AUC
    wanted = ["aux_head", "frame"] if run.multilabel else ["aux_head", "aux_head_realigned", "retrained_head"]
    heads = [h for h in wanted if h in run.heads] or run.heads[:2]
    series = []
    for head in heads:
        values = numbers((run.generic(head) or {}).get("per_class"))
        points = [(float(rank), at(values, c, None)) for rank, c in enumerate(run.class_order)]
        one = Series(head_name(head, run), points, STYLE.get(head, 5))
        series += [one] if one.known else []
    return series


def _chart(run: RunRecord, series: list[Series]) -> Chart | None:
    order = run.class_order
    classes = Classes(
        names=[run.classes[c] for c in order],
        counts=[at(run.class_counts, c, 0.0) for c in order] if run.class_counts else [],
        groups=[run.group_of.get(c, "") for c in order],
    )
    short, before_after = metric_names_of(run).short, " and ".join(s.name for s in series)
    label = f"Training images and {short} of each class: {before_after}"
    name, guess = f"{short.lower()}-by-class", 0.5 if run.multilabel else None
    return by_class_chart(name, classes, series, short, label, guess=guess)


def _table(run: RunRecord, series: list[Series]) -> Block:
    others = _other_metrics(run)
    rows = []
    for rank, c in enumerate(run.class_order):
        count = plain(at(run.class_counts, c, 0.0), ",.0f") if run.class_counts else DASH
        values = [percent(one.points[rank][1]) for one in series]
        values += [percent(at(metrics, c, None)) for metrics in others.values()]
        rows.append([run.classes[c], run.group_of.get(c, DASH), count, *values])
    auc = "AUC, " if run.multilabel else ""
    header = ["Class", "Group", "Training images", *(auc + s.name for s in series), *others]
    columns = ["", *["num"] * (len(header) - 2)]
    caption = f"{_capital(metric_names_of(run).short)} of the generic model by class"
    return Details("The same as a table", [Table(caption, header, rows, columns)])


def _other_metrics(run: RunRecord) -> dict[str, list[float | None]]:
    """Metrics by class beside AUC, of the head that the method is judged by; none for one label an image."""
    if not run.multilabel or not (reported := reported_generic(run)):
        return {}
    head, event = reported
    named = {"average_precision": "Average precision", "f1": "F1 at 0.5", "f1_tuned": "F1 tuned"}
    return {f"{name}, {head_name(head, run)}": numbers(event.get(key)) for key, name in named.items()}


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
