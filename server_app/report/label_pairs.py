"""Which labels occur together, in all of a simulated federation and at some of its sites."""

from server_app.report.analysis import class_indices, part, shown_of, square
from server_app.report.heatmaps import heatmap
from server_app.report.page import details, figure, note, paragraph
from server_app.report.record import RunRecord


def label_pairs(run: RunRecord) -> str:
    """Return how many training images have each two labels."""
    if not run.simulated:
        return note("The sites do not disclose which labels occur together: only a simulation knows it.")
    facts = part(run, "label_pairs")
    classes = class_indices(facts.get("classes"), run)
    chart = _chart(run, classes, facts.get("all"), "all sites together")
    if not chart:
        return paragraph("No labels that occur together were recorded.")
    caption = (
        "Training images with both labels, over all sites; on the diagonal, those with the one. Labels that are hidden "
        "at an image's site are not counted. Classes from most to fewest images, a stronger colour is more (log "
        "scale), blank is none."
    )
    body = note("Known only because this is a simulation: real sites do not disclose it.")
    body += figure(chart, caption + shown_of(len(classes), run))
    found = facts.get("sites")
    for site, cells in (found if isinstance(found, dict) else {}).items():
        if one := _chart(run, classes, cells, str(site)):
            body += details(str(site), figure(one, f"The same at {site} alone."))
    return body


def _chart(run: RunRecord, classes: list[int], cells: object, where: str) -> str:
    names = [run.classes[c] for c in classes]
    counts = [[n or 0.0 for n in row] for row in square(cells, len(classes))]
    return heatmap(names, names, counts, f"Training images with each two labels, {where}", "") if counts else ""
