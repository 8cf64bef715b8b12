"""Section 1 of a run of several labels an image: what came out, and the words that the report uses."""

from server_app.report.blocks import Block, Details, Note, Table, Terms, Tile, Tiles
from server_app.report.headline import (
    BEST,
    LOCAL_REALIGN,
    STAGES,
    best,
    head_name,
    personal_table,
    remarks,
    reported_generic,
    reported_personal,
    unpersonal,
)
from server_app.report.page import percent, plain
from server_app.report.record import GROUPS, RunRecord, round_of
from server_app.report.words import BY_SHOT, METRIC_TITLES

_ANSWERS = tuple(name for name in METRIC_TITLES if name not in ("micro_auc", "undefined_auc"))

_PERSONAL = (
    "Each site's own version of the model, measured on that site's own test images, over the labels that are "
    "not hidden there; the mean counts every site alike, and sd is the standard deviation over the sites. It is "
    "not comparable with the generic metrics: the images and the classes are others."
)
_METRIC_TERMS = (
    (
        "Macro AUC, micro AUC",
        "AUC of a class is the chance that an image with the label gets a higher probability than one without "
        "it, ties counting half: 50 % is guessing, 100 % is perfect. Macro AUC is the plain mean over classes, "
        "so that rare classes count as much as frequent ones; micro AUC takes all pairs of image and class as one.",
    ),
    (
        "Classes without AUC (undefined)",
        "Without a test image that has the label, or without one that lacks it, a class has no AUC. It is left out "
        "of every mean and counted here, never set to 0. At a site, labels that are hidden there count too.",
    ),
    (
        "mAP",
        "Average precision of a class: its test images ranked by probability, the precision at each image with the "
        "label, averaged over these. mAP is the plain mean over classes.",
    ),
    (
        "Macro F1 at 0.5 and tuned, OF1",
        "F1 is the harmonic mean of precision and recall, here averaged over classes. At 0.5 a probability from 0.5 up "
        "is a yes. Tuned: each class has its own threshold, the one of largest F1 on a fifth of the test images, "
        "drawn from the seed; every metric on this page is of the other four fifths. OF1 takes all pairs of image "
        "and class as one, at 0.5.",
    ),
    (
        "Calibration error",
        "How far probabilities are from the shares of images that do have the label: pairs of image and class "
        "in 15 bins by probability, the difference of the two in each, averaged over the pairs. 0 is best.",
    ),
    (
        "Many, medium, few",
        "Classes with many training images (together the first 75 % of all labels), a medium number (the "
        "next 20 %) and few (the last 5 %).",
    ),
    BEST,
)
_ATTENTION = (
    "Label-aware attention",
    "Each class vector of the frame asks the backbone's last feature map where its class is, so that every "
    "class has a feature of its own, instead of one feature of the whole image for all.",
)
_HEAD = "The last layer, which turns features into one probability for each class; all sites together learn it."
_FRAME = "Class vectors that are constructed before training and never change."
_REALIGN = (
    (
        "Head ψ realigned (GA-FR)",
        "Global realignment: the coordinator rescales a copy of ψ, each class on its own, or shifts its biases. "
        "Which of two images is the likelier for a class stays the same, and so do macro AUC and mAP; F1 at 0.5, "
        "micro AUC and calibration can change.",
    ),
    LOCAL_REALIGN,
)
_FINETUNE = (
    "After fine-tuning",
    "At the end each site trains its personal model a little longer on its own images: the head, or with FedBABU and "
    "FedNCA-ML the whole model.",
)


def multilabel_headline(run: RunRecord) -> list[Block]:
    """Return the headline metrics: generic by head, personal by stage."""
    notes = [Note(words) for words in remarks(run)]
    blocks = [*notes, *_tiles(run), *_generic_tables(run), *personal_table(run), *_personal_means(run)]
    return [*blocks, Details("Words used here", [Terms(_terms(run))])]


def _tiles(run: RunRecord) -> list[Block]:
    tiles = []
    if generic := reported_generic(run):
        head, event = generic
        tiles.append(Tile(percent(event.get("macro_auc")), "generic, macro AUC", head_name(head, run)))
        tiles.append(Tile(percent(event.get("mean_ap")), "generic, mAP", head_name(head, run)))
    if personal := reported_personal(run):
        stage, event = personal
        tiles.append(Tile(percent(event.get("mean")), "personal, macro AUC, mean over sites", stage))
        worst = str(event.get("worst_site") or stage)
        tiles.append(Tile(percent(event.get("worst")), "personal, macro AUC, worst site", worst))
    return [Tiles(tiles)] if tiles else []


def _generic_tables(run: RunRecord) -> list[Block]:
    ranking, answers = [], []
    for head in run.heads:
        event = run.generic(head)
        if event is None:
            continue
        name, stage = head_name(head, run), "final" if event.get("stage") == "final" else "last evaluation"
        shares = [percent(event.get(key)) for key in ("macro_auc", *GROUPS, "micro_auc")]
        undefined = plain(event.get("undefined_auc"), ".0f")
        chosen = best(run.of("generic", head=head), "macro_auc")
        ranking.append([name, f"{round_of(event)}, {stage}", *shares, undefined, chosen])
        answers.append([name, *(percent(event.get(key)) for key in _ANSWERS)])
    if not ranking:
        return []
    header = ["Head", "Round", "Macro AUC", "Many", "Medium", "Few"]
    header += [METRIC_TITLES["micro_auc"], METRIC_TITLES["undefined_auc"], BEST[0]]
    caption = "Generic model on the coordinator's test images"
    return [
        Table(f"{caption}: AUC", header, ranking),
        Table(
            f"{caption}: precision, answers and probabilities",
            ["Head", *(METRIC_TITLES[key] for key in _ANSWERS)],
            answers,
        ),
    ]


def _personal_means(run: RunRecord) -> list[Block]:
    """Return the other metrics of the personal models by stage, means over sites."""
    found: dict[str, dict[str, float | None]] = {}
    for stage in ("final" if run.personal("final") else "arrival", "realigned", "finetuned"):
        if isinstance(means := (run.personal(stage) or {}).get("means"), dict):
            found[STAGES.get(stage, "on arrival, the last time")] = means
    by_shot = [key for key in BY_SHOT if any(means.get(key) is not None for means in found.values())]
    shares = (*by_shot, "micro_auc", *_ANSWERS)
    rows = [
        [name, *(percent(means.get(key)) for key in shares), plain(means.get("undefined_auc"), ".1f")]
        for name, means in found.items()
    ]
    header = ["Personal models", *((METRIC_TITLES | BY_SHOT)[key] for key in (*shares, "undefined_auc"))]
    return [Table("Personal models, other metrics, means over sites", header, rows)] if rows else []


def _terms(run: RunRecord) -> list[tuple[str, str]]:
    """The words that this run's tables use, with their meaning."""
    method = run.method
    tested = "the coordinator's test images"
    tested += ", which here are those of all sites together" if run.sites_own_tests else ""
    personal = _PERSONAL
    if unpersonal(run):
        personal += " This method trains nothing personal: before fine-tuning, it is the generic model itself."
    words = [("Generic model", f"One model for everybody, measured on {tested}."), ("Personal model", personal)]
    words += [*_METRIC_TERMS, *([_ATTENTION] if run.uses_attention else [])]
    if method is None or "aux_head" in method.shared:
        words.append(("Head ψ", _HEAD))
    elif "aux_head" in method.parts:
        words.append(("Head ψ", "A random last layer, the same everywhere, that is never trained."))
    if "frame" in run.heads:
        words.append(_frame(run))
    words += _REALIGN if method is None or method.realigns else []
    return words + ([_FINETUNE] if run.personal("finetuned") else [])


def _frame(run: RunRecord) -> tuple[str, str]:
    scaled = " As a head they have a scale and biases that are learned."
    if run.frame_trains:
        return "Trained class vectors W", "Class vectors that start as the fixed frame and learn." + scaled
    return "Fixed frame W", _FRAME + (scaled if run.method and "class_head" in run.method.parts else "")
