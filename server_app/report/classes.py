"""Section 4: each class's accuracy or AUC beside its count, before and after realignment."""

from itertools import groupby

from common.markup import escape_html as escape
from server_app.report.axes import Axis, count_axis, count_ticks, line, mark, svg, text, y_grid
from server_app.report.charts import LEFT, WIDTH, Series, legend, rank_ticks, shorten, text_width
from server_app.report.headline import head_name, reported_generic
from server_app.report.page import DASH, details, figure, paragraph, percent, plain, table
from server_app.report.record import RunRecord, at, numbers
from server_app.report.rounds import STYLE
from server_app.report.words import metric_names_of

_NAMED = 40  # up to so many classes are named below the chart; more are ranked


def per_class(run: RunRecord) -> str:
    """Return the chart of counts and accuracies by class, and the same as a table."""
    series = _series(run)
    if not run.classes or not series:
        return paragraph("No accuracy by class was recorded.")
    below = (
        "AUC of the class" if run.multilabel else "share of the class's test images that the generic model gets right"
    )
    words = (
        "Classes from most to fewest training images. Above: images of the class over all sites (log scale). "
        f"Below: {below}; horizontal lines are the means of the classes with many, medium and few images."
    )
    if not run.class_counts:
        words = "Classes in their own order, since the sites do not disclose how many images each has."
    words += " The dashed line is guessing; a class without a mark has no AUC." if run.multilabel else ""
    before_after = " and ".join(s.name for s in series)
    chart = _chart(run, series, f"Training images and {metric_names_of(run).short} of each class: {before_after}")
    return figure(legend(series) + chart, words) + _table(run, series)


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


def _chart(run: RunRecord, series: list[Series], label: str) -> str:
    names = [run.classes[c] for c in run.class_order]
    right, top, middle = WIDTH - 20, 44.0, 150.0
    x_axis = Axis(-0.5, len(names) - 0.5, LEFT, right)
    start = top
    parts: list[str] = []
    if run.class_counts:
        parts += _count_bars(run, x_axis, top, middle)
        start = middle + 44
    least = min(y for one in series for _, y in one.known)
    low = 0.5 if run.multilabel and least >= 0.5 else 0.0
    y_axis = Axis(low, 1.0, start + 220, start, percent=True)
    parts += y_grid(y_axis, LEFT, right, metric_names_of(run).short)
    parts += [line(LEFT, y_axis.at(0.5), right, y_axis.at(0.5), "cut")] if run.multilabel else []
    parts += _group_marks(run, series, x_axis, y_axis, top)
    parts += _points(names, series, x_axis, y_axis)
    bottom = y_axis.start
    under, depth = _class_names(names, x_axis, bottom)
    return svg(parts + under, WIDTH, bottom + depth, label)


def _count_bars(run: RunRecord, x_axis: Axis, top: float, bottom: float) -> list[str]:
    counts = [at(run.class_counts, c, 0.0) for c in run.class_order]
    axis = count_axis(counts, bottom, top)
    ticks = [(value, words) for value, words in count_ticks(axis) if words[0] in "01"]
    parts = y_grid(axis, x_axis.start, x_axis.end, "training images", ticks)
    wide = (x_axis.end - x_axis.start) / len(counts)
    for rank, (c, n) in enumerate(zip(run.class_order, counts, strict=True)):
        y = axis.at(n)
        x = x_axis.at(rank) - wide * 0.4
        box = f'x="{x:.1f}" y="{y:g}" width="{wide * 0.8:.2f}" height="{bottom - y:.1f}"'
        title = f"<title>{escape(f'{run.classes[c]}: {n:,.0f} training images')}</title>"
        parts.append(f'<rect {box} class="count">{title}</rect>')
    return parts


def _group_marks(run: RunRecord, series: list[Series], x_axis: Axis, y_axis: Axis, top: float) -> list[str]:
    """Cut lines and names of many, medium, few, and each series' mean within them."""
    parts: list[str] = []
    ranked = enumerate(run.group_of.get(c, "") for c in run.class_order)
    for group, members in groupby(ranked, key=lambda pair: pair[1]):
        ranks = [rank for rank, _ in members]
        if not group:
            continue
        low, high = x_axis.at(ranks[0] - 0.5), x_axis.at(ranks[-1] + 0.5)
        parts.append(line(high, top - 22, high, y_axis.start, "cut"))
        parts.append(text((low + high) / 2, top - 28, f"{group} ({len(ranks)})", css="name"))
        for one in series:
            known = [y for x, y in one.known if ranks[0] <= x <= ranks[-1]]
            if known and len(ranks) > 1:
                y = y_axis.at(sum(known) / len(known))
                parts.append(f'<g class="s{one.style}">{line(low + 2, y, high - 2, y, "mean")}</g>')
    return parts


def _points(names: list[str], series: list[Series], x_axis: Axis, y_axis: Axis) -> list[str]:
    scale = 1.0 if len(names) <= 50 else 0.75 if len(names) <= 150 else 0.45
    parts: list[str] = []
    for rank, name in enumerate(names):
        x = x_axis.at(rank)
        values = [(one, y) for one in series if (y := one.points[rank][1]) is not None]
        if len(values) == 2:
            parts.append(line(x, y_axis.at(values[0][1]), x, y_axis.at(values[1][1]), "stem"))
        for one, y in values:
            parts.append(mark(one.style, x, y_axis.at(y), f"{name}, {one.name}: {percent(y)}", "dot", scale))
    return parts


def _class_names(names: list[str], x_axis: Axis, bottom: float) -> tuple[list[str], float]:
    """Names or ranks below the chart, and the height they take."""
    if len(names) > _NAMED:
        parts = [text(x_axis.at(rank - 1), bottom + 17, f"{rank}") for rank in rank_ticks(len(names))]
        words = "class by number of training images (1 = most); names on hover and in the table"
        return [*parts, text((x_axis.start + x_axis.end) / 2, bottom + 36, words, css="name")], 46
    wide = (x_axis.end - x_axis.start) / len(names)
    names = [shorten(name, 16) for name in names]
    longest = max(map(text_width, names))
    turn = longest > wide
    anchor = "end" if turn else "middle"
    parts = [
        text(x_axis.at(rank) + 4 * turn, bottom + 17, name, anchor, turn=-40 * turn) for rank, name in enumerate(names)
    ]
    return parts, 26 + (0.64 * longest if turn else 0.0)


def _table(run: RunRecord, series: list[Series]) -> str:
    others = _other_metrics(run)
    rows = []
    for rank, c in enumerate(run.class_order):
        count = plain(at(run.class_counts, c, 0.0), ",.0f") if run.class_counts else DASH
        values = [percent(one.points[rank][1]) for one in series]
        values += [percent(at(metrics, c, None)) for metrics in others.values()]
        rows.append([run.classes[c], run.group_of.get(c, DASH), count, *values])
    auc = "AUC, " if run.multilabel else ""
    header = ["Class", "Group", "Training images", *(auc + s.name for s in series), *others]
    css = ["", *["num"] * (len(header) - 2)]
    body = table(f"{_capital(metric_names_of(run).short)} of the generic model by class", header, rows, css)
    return details("The same as a table", body)


def _other_metrics(run: RunRecord) -> dict[str, list[float | None]]:
    """Metrics by class beside AUC, of the head that the method is judged by; none for one label an image."""
    if not run.multilabel or not (reported := reported_generic(run)):
        return {}
    head, event = reported
    named = {"average_precision": "Average precision", "f1": "F1 at 0.5", "f1_tuned": "F1 tuned"}
    return {f"{name}, {head_name(head, run)}": numbers(event.get(key)) for key, name in named.items()}


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
