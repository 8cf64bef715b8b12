"""Sections 2 and 3: accuracy and losses by round."""

from statistics import mean

from common.methods import Method
from server_app.report.blocks import Block, figure
from server_app.report.charts import Level, Series, line_chart
from server_app.report.headline import head_name
from server_app.report.record import RunRecord, number, round_of
from server_app.report.words import metric_names_of, unrecorded

STYLE = {"aux_head": 0, "aux_head_realigned": 1, "retrained_head": 1, "frame": 2}
_LOSSES = {
    "backbone": ("backbone θ, by frame W", 2),
    "aux_head": ("head ψ", 0),
    "personal_head": ("personal heads φ", 3),
    "proximal": ("proximal term", 4),
    "suppression": ("negative suppression", 4),
    "clustering": ("compact clustering", 5),
}
_LABEL = "Balanced accuracy of each generic head and mean plain accuracy of the personal models, by round"
_ARRIVAL = (
    "Sites measure the model that arrives, so a metric that came back in round r stands at round r − 1. Large "
    "hollow marks are final metrics, over all sites; a head or stage made only at the end is a single mark."
)
_STAGE_STYLE = {"realigned": ("personal, realigned", 4), "finetuned": ("personal, fine-tuned", 5)}


def accuracy_by_round(run: RunRecord) -> list[Block]:
    """Return curves of the generic heads and of the personal mean, with the final points marked."""
    series = [_generic_curve(run, head) for head in run.heads]
    series += _personal_curves(run)
    axis, label = "accuracy (generic: balanced; personal: plain)", _LABEL
    caption = (
        "Generic: balanced accuracy on the coordinator's test images. Personal: plain accuracy on the site's "
        "own test images, mean over the sites that took part in the round; the two are not comparable."
    )
    if run.multilabel:
        axis, label = (
            "macro AUC (50 %: guessing)",
            "Macro AUC of each generic head and of the personal models, by round",
        )
        caption = (
            "Generic: macro AUC on the coordinator's test images. Personal: macro AUC on the site's own test images, "
            "over the labels known there, mean over the sites that took part in the round; the two are not comparable."
        )
    level, guess = None, 0.5 if run.multilabel else None
    if shares := run.majority_shares.values():
        level = Level("always the most frequent class", mean(shares))
        caption += " The grey line: a model that always answers with its site's most frequent class, mean over sites."
    chart = line_chart(
        "accuracy-by-round", series, "round", axis, label, percent=True, close=run.multilabel, guess=guess, level=level
    )
    return figure(chart, f"{caption} {_ARRIVAL}") or unrecorded(run, "No evaluation was recorded.")


def losses_by_round(run: RunRecord) -> list[Block]:
    """Return curves of the training losses; nothing for a method that trains nothing."""
    if run.method is not None and not run.method.trains:
        return []
    rounds = run.of("round")
    names = dict.fromkeys(key for event in rounds for key in _loss(event.get("loss")))
    series = []
    framed = run.method is None or (run.method.realigns and not run.frame_trains)
    for i, key in enumerate(names):
        label, style = _LOSSES.get(key, (key.replace("_", " "), 4 + i))
        if run.method is not None:
            label = _trained_by(key, run.method, label)
        points = [(float(round_of(e)), number(_loss(e.get("loss")).get(key))) for e in rounds]
        series.append(Series(label, points, style))
    chart = line_chart(
        "losses-by-round", series, "round", "training loss", "Mean training loss of each part of the model, by round"
    )
    words = "Mean loss over the training images of the sites that took part."
    if framed:
        words += (
            " The backbone learns through the fixed frame alone; the heads learn on its features without changing it."
        )
    return figure(chart, words) or unrecorded(run, "No loss was recorded.")


def _trained_by(loss: str, method: Method, label: str) -> str:
    """Return what a loss trains under this method, in words."""
    if loss == "backbone" and not method.frame:
        if "aux_head" in method.shared:
            return "backbone θ and head ψ"
        return "backbone θ, under a fixed head" if "aux_head" in method.parts else "backbone θ and heads φ"
    if loss == "personal_head" and "personal_backbone" in method.parts:
        return "personal models"
    return label


def _generic_curve(run: RunRecord, head: str) -> Series:
    by_round: dict[float, float | None] = {}
    metric_key = metric_names_of(run).generic_key
    for event in run.of("generic", head=head, stage="training") + run.of("generic", head=head, stage="final"):
        by_round[float(round_of(event))] = number(event.get(metric_key))
    final = bool(run.of("generic", head=head, stage="final"))
    return Series(f"generic, {head_name(head, run)}", sorted(by_round.items()), STYLE.get(head, 5), final)


def _personal_curves(run: RunRecord) -> list[Series]:
    by_round = {float(round_of(e) - 1): number(e.get("mean")) for e in run.of("personal", stage="arrival")}
    last = run.personal("final")
    if last:
        by_round[float(round_of(last))] = number(last.get("mean"))
    series = [Series(_personal_name(run), sorted(by_round.items()), 3, last is not None)]
    for stage, (name, style) in _STAGE_STYLE.items():
        if event := run.personal(stage):
            series.append(Series(name, [(float(round_of(event)), number(event.get("mean")))], style, True))
    return series


def _personal_name(run: RunRecord) -> str:
    """Without a personal part, what the sites measure before fine-tuning is the generic model."""
    return "personal" if run.method is None or run.method.personalises else "generic, on the sites' tests"


def _loss(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
