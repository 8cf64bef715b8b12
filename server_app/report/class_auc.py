"""AUC of each class against how many training images have the label."""

from server_app.report.blocks import Block, figure
from server_app.report.charts import Series, scatter_chart
from server_app.report.headline import head_name
from server_app.report.record import RunRecord, at, numbers
from server_app.report.rounds import STYLE
from server_app.report.words import unrecorded


def auc_against_counts(run: RunRecord) -> list[Block]:
    """Return the scatter of AUCs against class counts; nothing where sites do not disclose the counts."""
    if not run.class_counts or (run.finished and not run.heads):
        return []
    series = []
    for head in (head for head in run.heads if head != "aux_head_realigned"):  # its AUCs are ψ's
        values = numbers((run.generic(head) or {}).get("per_class"))
        points = [(n, at(values, c, None)) for c, n in enumerate(run.class_counts)]
        series.append(Series(head_name(head, run), points, STYLE.get(head, 5)))
    label = "AUC of each class under each generic head against class counts"
    names = [at(run.classes, c, f"class {c}") for c in range(len(run.class_counts))]
    chart = scatter_chart("auc-against-counts", series, names, "AUC", label, percent=True, close=True, guess=0.5)
    words = "One mark a class and head; names on hover. 50 % is guessing. Marks that rise to the right: the model "
    words += "ranks images better for classes that it has seen more often."
    if "aux_head_realigned" in run.heads:
        words += " Realigned, head ψ has the same AUCs."
    return figure(chart, words) or unrecorded(run, "No AUC by class was recorded.")
