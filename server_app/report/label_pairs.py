"""Which labels occur together, in all of a simulated federation and at some of its sites."""

from server_app.report.analysis import class_indices, part, shown_of, square
from server_app.report.blocks import Block, Details, Note, figure
from server_app.report.charts import Chart, heatmap, numbers_of_columns
from server_app.report.record import RunRecord
from server_app.report.words import unrecorded


def label_pairs(run: RunRecord) -> list[Block]:
    """Return how many training images have each two labels; nothing of real sites, which do not disclose it."""
    if not run.simulated:
        return []
    facts = part(run, "label_pairs")
    classes = class_indices(facts.get("classes"), run)
    chart = _chart("label-pairs", run, classes, facts.get("all"), "all sites together")
    if not chart:
        return unrecorded(run, "No labels that occur together were recorded.")
    caption = (
        "Training images with both labels, over all sites; on the diagonal, those with the one. Labels that are hidden "
        "at an image's site are not counted. Classes from most to fewest images, a stronger colour is more (log "
        "scale), blank is none."
    )
    blocks: list[Block] = [Note("Known only because this is a simulation: real sites do not disclose it.")]
    blocks += figure(chart, caption + shown_of(len(classes), run) + numbers_of_columns(len(classes)))
    found = facts.get("sites")
    for i, (site, cells) in enumerate((found if isinstance(found, dict) else {}).items(), 1):
        if one := _chart(f"label-pairs-{i}", run, classes, cells, str(site)):
            blocks.append(Details(str(site), figure(one, f"The same at {site} alone.")))
    return blocks


def _chart(name: str, run: RunRecord, classes: list[int], cells: object, where: str) -> Chart | None:
    names = [run.classes[c] for c in classes]
    counts = [[n or 0.0 for n in row] for row in square(cells, len(classes))]
    return heatmap(name, names, names, counts, f"Training images with each two labels, {where}", "") if counts else None
