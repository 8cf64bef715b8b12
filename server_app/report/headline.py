"""Section 1: what came out, and the words that the report uses."""

from common.methods import HEAD_TITLES
from common.metrics import further_metrics
from server_app.report.blocks import Block, Details, Note, Table, Terms, Tile, Tiles
from server_app.report.page import DASH, percent, plain
from server_app.report.record import GROUPS, Event, RunRecord, number, round_of
from server_app.report.words import metric_names_of

HEADS = {
    "aux_head": "head ψ",
    "aux_head_realigned": "head ψ realigned",
    "retrained_head": "head ψ re-trained",
    "frame": "fixed frame W",
}
STAGES = {"final": "after training", "realigned": "after realignment", "finetuned": "after fine-tuning"}

_PERSONAL = (
    "Each site's own version of the model, measured on that site's own test images by plain accuracy (every "
    "image counts alike); the mean counts every site alike, and sd is the standard deviation over the sites. "
    "It is not comparable with balanced accuracy: where one class dominates a site, always answering with "
    "that class scores high too."
)
BEST = (
    "Best (test-selected)",
    "The highest value of any evaluation, picked by looking at the test images themselves and so too "
    "favourable; the values to report are those of the last round.",
)
_TERMS = (
    (
        "Balanced accuracy",
        "The share of right answers within each class, averaged over the classes, so that rare classes count "
        "as much as frequent ones; plain accuracy counts every test image alike.",
    ),
    (
        "Many, medium, few",
        "Classes with many training images (together the first 75 % of all images), a medium number (the "
        "next 20 %) and few (the last 5 %).",
    ),
    BEST,
)
_HEAD = "The last layer, which turns an image's features into classes; all sites together learn it."
_RETRAINED = (
    "Head ψ re-trained",
    "A last layer that the coordinator trains on made-up features, which imitate the sites' without being any of them.",
)
_FRAME = ("Fixed frame W", "A last layer that is constructed before training and never changes.")
LOCAL_REALIGN = (
    "After realignment (LA-FR)",
    "Local realignment: after training, each site rescales its head by how well it knows each class, so "
    "that its answers fit the images seen there.",
)
_REALIGN = (
    (
        "Head ψ realigned (GA-FR)",
        "Global realignment: the coordinator rescales a copy of ψ so that frequent classes no longer drown "
        "out rare ones; training itself goes on with ψ as it is.",
    ),
    LOCAL_REALIGN,
)
_FINETUNE = (
    "After fine-tuning",
    "At the end each site trains its personal model a little longer on its own images: the head, or with FedBABU and "
    "FedETF more of it.",
)


def headline(run: RunRecord) -> list[Block]:
    """Return the headline metrics: generic by head, personal by stage."""
    notes = [Note(words) for words in remarks(run)]
    blocks = [*notes, *_tiles(run), *_generic_table(run), *personal_table(run)]
    return [*blocks, Details("Words used here", [Terms(_terms(run))])]


def _terms(run: RunRecord) -> list[tuple[str, str]]:
    """The words that this run's tables use, with their meaning."""
    method = run.method
    tested = "the coordinator's test images"
    tested += ", which here are those of all sites together" if run.sites_own_tests else ""
    personal = _PERSONAL
    if unpersonal(run):
        personal += " This method trains nothing personal: before fine-tuning, it is the generic model itself."
    words = [("Generic model", f"One model for everybody, measured on {tested}."), ("Personal model", personal)]
    words += _TERMS
    if method is None or "aux_head" in method.shared:
        words.append(("Head ψ", _HEAD))
    elif "aux_head" in method.parts:
        words.append(("Head ψ", "A random last layer, the same everywhere, that is never trained."))
    words += [_RETRAINED] if method is None or "retrained_head" in method.parts else []
    words += [_FRAME] if method is None or method.frame else []
    words += _REALIGN if method is None or method.realigns else []
    return words + ([_FINETUNE] if run.personal("finetuned") else [])


def unpersonal(run: RunRecord) -> bool:
    """Whether the method trains nothing personal."""
    return run.method is not None and not run.method.personalises


def reported_generic(run: RunRecord) -> tuple[str, Event] | None:
    """Return the head and metrics that stand for the generic model: the realigned head if there is one."""
    preferred = (run.method.reported_head,) if run.method else ()
    for head in (*preferred, *run.heads):
        if event := run.generic(head):
            return head, event
    return None


def reported_personal(run: RunRecord) -> tuple[str, Event] | None:
    """Return the words and metrics that stand for the personal models: the last stage that was reached."""
    for stage in ("finetuned", "realigned", "final"):
        if event := run.personal(stage):
            return STAGES[stage], event
    event = run.personal("arrival")
    return (f"on arrival in round {round_of(event)}", event) if event else None


def head_name(head: str, run: RunRecord) -> str:
    """Return a head's name in words."""
    if head == "frame" and run.frame_trains:
        return "trained class vectors W"
    return HEADS.get(head) or HEAD_TITLES.get(head, head.replace("_", " "))


def remarks(run: RunRecord) -> list[str]:
    """Return what a reader must know before the metrics."""
    words = []
    if run.on_validation:
        words.append(
            "The metrics on this page are of validation images: wherever it says test images, it means images held "
            "out from the training images. The data set's own test images were not used."
        )
    rounds = run.of("round")
    if not run.finished and rounds:
        asked = plain(run.config.get("rounds"), ".0f")
        words.append(
            f"This run has not finished: it reached round {round_of(rounds[-1])} of {asked}. "
            "The metrics are those of its last evaluation."
        )
    elif not run.finished:
        words.append("This run has not finished its first round.")
    if lost := len(run.of("missing")) + len(run.of("lost")):
        words.append(
            f"This run went on without {lost} thing(s) that it should have had; which, and what became of it, is under "
            "“Configuration and cost”."
        )
    if run.problems:
        words.append(f"The run's folder is incomplete: {'; '.join(run.problems)}.")
    return words


def _tiles(run: RunRecord) -> list[Block]:
    tiles = []
    if generic := reported_generic(run):
        head, event = generic
        name = head_name(head, run)
        tiles.append(Tile(percent(event.get("balanced_accuracy")), "generic, balanced accuracy", name))
        tiles.append(Tile(percent(event.get("few")), "generic, mean over the classes with few images", name))
    if personal := reported_personal(run):
        stage, event = personal
        worst = str(event.get("worst_site") or stage)
        tiles.append(Tile(percent(event.get("mean")), "personal, plain accuracy, mean over sites", stage))
        tiles.append(Tile(percent(event.get("worst")), "personal, plain accuracy, worst site", worst))
    return [Tiles(tiles)] if tiles else []


def _generic_table(run: RunRecord) -> list[Block]:
    rows = []
    for head in run.heads:
        event = run.generic(head)
        if event is None:
            continue
        stage = "final" if event.get("stage") == "final" else "last evaluation"
        metrics = [percent(event.get(key)) for key in ("balanced_accuracy", *GROUPS, "accuracy", *further_metrics())]
        chosen = best(run.of("generic", head=head), "balanced_accuracy")
        rows.append([head_name(head, run), f"{round_of(event)}, {stage}", *metrics, chosen])
    header = [
        "Head",
        "Round",
        "Balanced accuracy",
        "Many",
        "Medium",
        "Few",
        "Plain accuracy",
        *further_metrics().values(),
        "Best (test-selected)",
    ]
    return [Table("Generic model on the coordinator's test images", header, rows)] if rows else []


def personal_table(run: RunRecord) -> list[Block]:
    """Return the primary metric of the personal models by stage."""
    rows = []
    before = "final" if run.personal("final") else "arrival"
    for stage in (before, "realigned", "finetuned"):
        event = run.personal(stage)
        if event is None:
            continue
        name = STAGES.get(stage, "on arrival, the last time")
        name += " (the generic model)" if stage == before and unpersonal(run) else ""
        spread = f"{percent(event.get('mean'))} ± {plain(hundred(event.get('std')), '.1f')}"
        history = run.of("personal", stage="arrival") + run.of("personal", stage="final")
        chosen = best(history, "mean") if stage == before else DASH
        worst = f"{percent(event.get('worst'))} ({event.get('worst_site') or DASH})"
        rows.append([name, str(round_of(event)), spread, worst, chosen])
    header = [
        "Personal models",
        "Round",
        "Mean ± sd over sites",
        "Worst site",
        "Best mean (test-selected)",
    ]
    caption = f"Personal models, {metric_names_of(run).personal} on each site's own test images"
    return [Table(caption, header, rows)] if rows else []


def hundred(value: object) -> float | None:
    """Return a share in per cent, None if unknown."""
    share = number(value)
    return None if share is None else share * 100


def best(events: list[Event], key: str) -> str:
    """Return the highest metric of several events with the round of its model, else a dash."""
    known = [(value, event) for event in events if (value := number(event.get(key))) is not None]
    if len(known) < 2:  # one measurement is no selection
        return DASH
    value, event = max(known, key=lambda pair: pair[0])
    model = round_of(event) - (event.get("stage") == "arrival")  # what arrives is the round before's model
    return f"{percent(value)} (round {model})"
