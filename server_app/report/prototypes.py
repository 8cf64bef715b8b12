"""The features of each class: how alike their means are, and where t-SNE puts them."""

from collections.abc import Sequence

from server_app.report.analysis import class_indices, part, shown_of, square, whole
from server_app.report.axes import Axis, line, mark, svg, text
from server_app.report.charts import WIDTH, Series, legend, shorten, text_width
from server_app.report.heatmaps import cosine_map
from server_app.report.page import figure, paragraph, plain
from server_app.report.points import place_names
from server_app.report.record import RunRecord, number, numbers

_HALO = 'style="paint-order:stroke;stroke:var(--bg);stroke-width:4px;font-weight:600"'


def class_features(run: RunRecord) -> str:
    """Return the cosines between prototypes and the map of features."""
    chosen = _cosines(run) + _points(run)
    if chosen:
        return chosen
    if run.method is not None and run.method.local_norm:
        return paragraph("BatchNorm is each site's own with this method, so there is no generic backbone to look into.")
    return paragraph("No features were recorded.")


def _of_what(run: RunRecord) -> str:
    return (
        "the class's own feature" if run.uses_attention else "the feature of the whole image, since classes share one"
    )


def _cosines(run: RunRecord) -> str:
    facts = part(run, "prototypes")
    classes = class_indices(facts.get("classes"), run)
    cells = square(facts.get("cosines"), len(classes))
    if not cells:
        return ""
    mean, count = number(facts.get("mean_off_diagonal")), len(run.classes)
    words = (
        f"A class's prototype is the mean of the final generic model's features over the coordinator's test images "
        f"that have the label, at most {plain(facts.get('at_most'), ',.0f')} of a class: {_of_what(run)}. "
    )
    if mean is not None:
        words += f"Mean cosine between two different prototypes: {plain(mean, '.3f').replace('-', '−')}"
        words += f"; were they as far apart as {count} directions can be, −1/(C−1) = −{1 / (count - 1):.3f}."
    names = [run.classes[c] for c in classes]
    chart = cosine_map(names, cells, "Cosine between the prototypes of each two classes")
    caption = "Cosine between the prototypes of each two classes, from most to fewest training images."
    if without := whole(facts.get("without")):
        caption += f" {without} of all classes have no positive test image and no prototype."
    return paragraph(words) + figure(chart, caption + shown_of(len(classes), run)) + _without_attention(facts, names)


def _without_attention(facts: dict[str, object], names: Sequence[str]) -> str:
    """Return the same cosines of the pooled features that the attention starts from."""
    pooled = facts.get("without_attention")
    cells = square(pooled.get("cosines"), len(names)) if isinstance(pooled, dict) else []
    if not isinstance(pooled, dict) or not cells:
        return ""
    label = "Cosine between the prototypes of each two classes without attention"
    caption = (
        f"The same without attention, of the whole image's feature: mean "
        f"{plain(number(pooled.get('mean_off_diagonal')), '.3f').replace('-', '−')}."
    )
    return figure(cosine_map(names, cells, label), caption)


def _points(run: RunRecord) -> str:
    facts = part(run, "points")
    kinds, xs, ys = class_indices(facts.get("classes"), run), numbers(facts.get("x")), numbers(facts.get("y"))
    if not kinds or not len(kinds) == len(xs) == len(ys):
        return ""
    places = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    if len(places) < len(kinds):
        return ""
    classes = [c for c in run.class_order if c in set(kinds)]
    series = [
        Series(run.classes[c], [p for p, kind in zip(places, kinds, strict=True) if kind == c], style)
        for style, c in enumerate(classes)
    ]
    caption = (
        f"t-SNE of {len(kinds):,} features at unit length, one mark a positive: {_of_what(run)}. Marks near each other "
        "have like features; distances between far clouds, and the axes, mean nothing."
    )
    if not run.uses_attention:
        caption += " An image with several labels has a mark for each, at one place."
    chart = legend(series) + cloud_chart(series, "t-SNE of the features of positives, by class")
    return figure(chart, caption + shown_of(len(classes), run))


def cloud_chart(series: Sequence[Series], label: str) -> str:
    """Return clouds of marks without axes, each named at its median; a unit is as long across as down."""
    xs, ys = ([p[i] for s in series for p in s.known] for i in (0, 1))
    height, room = 520.0, 20.0
    across, down = max(max(xs) - min(xs), 1e-9), max(max(ys) - min(ys), 1e-9)
    unit = min((WIDTH - 2 * room) / across, (height - 2 * room) / down)
    x_axis = Axis(min(xs), min(xs) + across, (WIDTH - across * unit) / 2, (WIDTH + across * unit) / 2)
    y_axis = Axis(min(ys), min(ys) + down, (height + down * unit) / 2, (height - down * unit) / 2)
    parts, spots = [], []
    for one in series:
        marks = [mark(one.style, x_axis.at(x), y_axis.at(y), one.name, "dot", 0.75) for x, y in one.known]
        parts.append(f'<g class="series">{"".join(marks)}</g>')
        x, y = (sorted(p[i] for p in one.known)[len(one.known) // 2] for i in (0, 1))
        spots.append((x_axis.at(x), y_axis.at(y)))
    return svg([*parts, *_names([shorten(s.name, 20) for s in series], spots, height)], WIDTH, height, label)


def _names(names: Sequence[str], spots: Sequence[tuple[float, float]], height: float) -> list[str]:
    """Return each cloud's name near its median, none upon another, with a line to it where it is far."""
    parts = []
    places = place_names(spots, [1.1 * text_width(name) for name in names], (0.0, 0.0, WIDTH, height))
    for name, spot, (left, base) in zip(names, spots, places, strict=True):
        middle = left + 0.55 * text_width(name)
        parts.append(line(*spot, middle, base - 4, "leader"))
        parts.append(text(middle, base, name).replace("<text ", f"<text {_HALO} ", 1))
    return parts
