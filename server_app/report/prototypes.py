"""The features of each class: how alike their means are, and where t-SNE puts them."""

from collections.abc import Sequence

from server_app.report.analysis import class_indices, has_backbone, part, shown_of, square, whole
from server_app.report.attention import how_to_ask
from server_app.report.blocks import Block, Paragraph, figure
from server_app.report.charts import Series, cloud_chart, cosine_map, numbers_of_columns
from server_app.report.page import plain
from server_app.report.record import RunRecord, number, numbers
from server_app.report.words import unrecorded


def class_features(run: RunRecord) -> list[Block]:
    """Return the cosines between prototypes and the map of features, and how to ask for pictures of them."""
    chosen = [*_cosines(run), *_points(run)]
    if not chosen and has_backbone(run):
        chosen = [*unrecorded(run, "No features were recorded.")]
    return [*chosen, *how_to_ask(run)]


def _of_what(run: RunRecord) -> str:
    return (
        "the class's own feature" if run.uses_attention else "the feature of the whole image, since classes share one"
    )


def _cosines(run: RunRecord) -> list[Block]:
    facts = part(run, "prototypes")
    classes = class_indices(facts.get("classes"), run)
    cells = square(facts.get("cosines"), len(classes))
    if not cells:
        return []
    mean, count = number(facts.get("mean_off_diagonal")), len(run.classes)
    words = (
        f"A class's prototype is the mean of the final generic model's features over the coordinator's test images "
        f"that have the label, at most {plain(facts.get('at_most'), ',.0f')} of a class: {_of_what(run)}. "
    )
    if mean is not None:
        words += f"Mean cosine between two different prototypes: {plain(mean, '.3f').replace('-', '−')}"
        words += f"; were they as far apart as {count} directions can be, −1/(C−1) = −{1 / (count - 1):.3f}."
    names = [run.classes[c] for c in classes]
    chart = cosine_map("prototypes", names, cells, "Cosine between the prototypes of each two classes")
    caption = "Cosine between the prototypes of each two classes, from most to fewest training images."
    if without := whole(facts.get("without")):
        caption += f" {without} of all classes have no positive test image and no prototype."
    shown = figure(chart, caption + shown_of(len(classes), run) + numbers_of_columns(len(classes)))
    return [Paragraph(words), *shown, *_without_attention(facts, names)]


def _without_attention(facts: dict[str, object], names: Sequence[str]) -> list[Block]:
    """Return the same cosines of the pooled features that the attention starts from."""
    pooled = facts.get("without_attention")
    cells = square(pooled.get("cosines"), len(names)) if isinstance(pooled, dict) else []
    if not isinstance(pooled, dict) or not cells:
        return []
    label = "Cosine between the prototypes of each two classes without attention"
    caption = (
        f"The same without attention, of the whole image's feature: mean "
        f"{plain(number(pooled.get('mean_off_diagonal')), '.3f').replace('-', '−')}."
    )
    return figure(cosine_map("prototypes-without-attention", names, cells, label), caption)


def _points(run: RunRecord) -> list[Block]:
    facts = part(run, "points")
    kinds, xs, ys = class_indices(facts.get("classes"), run), numbers(facts.get("x")), numbers(facts.get("y"))
    if not kinds or not len(kinds) == len(xs) == len(ys):
        return []
    places = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    if len(places) < len(kinds):
        return []
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
    chart = cloud_chart("features", series, "t-SNE of the features of positives, by class")
    return figure(chart, caption + shown_of(len(classes), run))
