"""Sections 2 and 3: accuracy and losses by round."""

from server_app.report.charts import Series, line_chart
from server_app.report.headline import head_name
from server_app.report.page import figure, paragraph
from server_app.report.record import RunRecord, number, round_of

STYLE = {"aux_head": 0, "aux_head_realigned": 1, "frame": 2}
_LOSSES = {"backbone": ("backbone θ", 2), "aux_head": ("head ψ", 0), "personal_head": ("personal heads φ", 3)}
_STAGE_STYLE = {"realigned": ("personal, realigned", 4), "finetuned": ("personal, fine-tuned", 5)}


def accuracy_by_round(run: RunRecord) -> str:
    """Return curves of the generic heads and of the personal mean, with the final points marked."""
    series = [_generic_curve(run, head) for head in run.heads]
    series += _personal_curves(run)
    chart = line_chart(
        series,
        "round",
        "accuracy",
        "Balanced accuracy of each generic head and mean accuracy of the personal models, by round",
        percent=True,
    )
    return figure(
        chart,
        "Generic: balanced accuracy on the coordinator's test images. Personal: mean, on their own test "
        "images, over the sites that took part in the round. Sites measure the model that arrives, so a "
        "figure that came back in round r stands at round r − 1. Large hollow marks are final figures, over "
        "all sites; a head or stage made only at the end is a single mark.",
    ) or paragraph("No evaluation was recorded.")


def losses_by_round(run: RunRecord) -> str:
    """Return curves of the training losses."""
    rounds = run.of("round")
    names = dict.fromkeys(key for event in rounds for key in _loss(event.get("loss")))
    series = []
    for i, key in enumerate(names):
        label, style = _LOSSES.get(key, (key.replace("_", " "), 4 + i))
        points = [(float(round_of(e)), number(_loss(e.get("loss")).get(key))) for e in rounds]
        series.append(Series(label, points, style))
    chart = line_chart(series, "round", "training loss", "Mean training loss of each part of the model, by round")
    return figure(
        chart,
        "Mean loss over the training images of the sites that took part. With a fixed frame the backbone "
        "learns through the frame alone, and the heads learn on its features without changing it.",
    ) or paragraph("No loss was recorded.")


def _generic_curve(run: RunRecord, head: str) -> Series:
    by_round: dict[float, float | None] = {}
    for event in run.of("generic", head=head, stage="training") + run.of("generic", head=head, stage="final"):
        by_round[float(round_of(event))] = number(event.get("balanced_accuracy"))
    final = bool(run.of("generic", head=head, stage="final"))
    return Series(f"generic, {head_name(head)}", sorted(by_round.items()), STYLE.get(head, 5), final)


def _personal_curves(run: RunRecord) -> list[Series]:
    by_round = {float(round_of(e) - 1): number(e.get("mean")) for e in run.of("personal", stage="arrival")}
    last = run.personal("final")
    if last:
        by_round[float(round_of(last))] = number(last.get("mean"))
    series = [Series("personal", sorted(by_round.items()), 3, last is not None)]
    for stage, (name, style) in _STAGE_STYLE.items():
        if event := run.personal(stage):
            series.append(Series(name, [(float(round_of(event)), number(event.get("mean")))], style, True))
    return series


def _loss(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
