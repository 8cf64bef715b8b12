"""Sections 5 and 6: how even the fixed frame is, and how long the heads' class vectors are."""

import math

from server_app.report.blocks import Block, Note, Paragraph, Table, figure
from server_app.report.charts import Series, scatter_chart
from server_app.report.headline import HEADS, head_name
from server_app.report.page import DASH, plain
from server_app.report.record import RunRecord, at, number, numbers
from server_app.report.rounds import STYLE
from server_app.report.words import unrecorded

_MEASURES = {"sparsity": "share of zeros", "seconds": "seconds to construct", "solver": "construction"}


def ideal_angle(num_classes: int) -> float:
    """Return the angle, in degrees, between any two class vectors of a simplex ETF: arccos(−1/(C−1))."""
    return math.degrees(math.acos(-1 / (num_classes - 1)))


def frame_geometry(run: RunRecord) -> list[Block]:
    """Return the frame's quality record beside its ideal; nothing for a method without a frame."""
    if not run.frame:
        without = run.method is not None and not run.method.frame
        return [] if without else unrecorded(run, "The fixed frame left no record.")
    count = len(run.classes)
    words = (
        "The frame gives each class a fixed direction. Ideally all class vectors have the same length and "
        "any two of them the same angle, the largest that is possible for all pairs at once, so that no "
        "class, frequent or rare, crowds out another."
    )
    if count >= 2:
        words += f" For C = {count} classes that angle is arccos(−1/(C−1)) = {ideal_angle(count):.4f}°."
    if run.frame.get("solver") == "spread":
        words += " Here the features have fewer than C − 1 dimensions, so no frame can reach it."
    if run.uses_attention:
        words += " It also asks the attention: every class vector for its own class."
    if run.frame_trains:
        words += " The class vectors that classify start as this frame and learn; the measures are of the start."
    rows = [[_words(key), _value(value), _ideal(key, run)] for key, value in run.frame.items()]
    return [Paragraph(words), Table("Geometry of the fixed frame", ["Measure", "This run", "Ideal"], rows)]


def head_norms(run: RunRecord) -> list[Block]:
    """Return the scatter of class-vector norms against class counts."""
    events = run.of("norms")
    if not events:
        return unrecorded(run, "No norms of the heads' class vectors were recorded.")
    heads = events[-1].get("heads")
    heads = heads if isinstance(heads, dict) else {}
    if not run.class_counts:
        words = "The sites do not disclose how many images each class has, so norms cannot be set against counts."
        return [Note(words)]
    if "frame" not in run.heads:  # it asks the attention and is no head
        heads = {head: norms for head, norms in heads.items() if head != "frame"}
    known = [head for head in HEADS if head in heads] + [head for head in heads if head not in HEADS]
    series = []
    for head in known:
        norms = numbers(heads[head])
        points = [(n, at(norms, c, None)) for c, n in enumerate(run.class_counts)]
        series.append(Series(head_name(head, run), points, STYLE.get(head, 5)))
    names = [at(run.classes, c, f"class {c}") for c in range(len(run.class_counts))]
    label = "Norm of each head's class vectors against class counts"
    if not any(one.known for one in series):  # all heads stay at the sites
        return []
    chart = scatter_chart("head-norms", series, names, "norm of the class vector", label)
    words = "One mark a class and head. "
    fixed = "frame" in known and not run.frame_trains
    if run.multilabel and known == ["frame"] and fixed:
        return figure(chart, words + "The fixed frame gives every class a vector of the same length.")
    words += "A trained head usually grows longer vectors for frequent classes, "
    words += "which favours them"
    words += "; realignment evens this out" if "aux_head_realigned" in known else ""
    words += ", and the fixed frame is even from the start" if fixed else ""
    return figure(chart, words + ".")


def _words(key: str) -> str:
    unit = "" if "angle" not in key else " (degrees²)" if "variance" in key else " (degrees)"
    return _MEASURES.get(key, key.replace("_", " ") + unit)


def _value(value: object) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return plain(value)


def _ideal(key: str, run: RunRecord) -> str:
    count = len(run.classes)
    if "variance" in key:
        return "0"
    if "angle" in key:
        return f"{ideal_angle(count):.4f}" if count >= 2 else DASH
    chosen = run.method is None or run.method.frame == "choice"  # FedLoGe's; others have norm 1
    if "norm" in key:
        return plain(run.config.get("frame-norm")) if chosen else "1"
    kind = run.config.get("frame" if chosen else "query-frame")
    if "sparsity" in key and kind != "etf" and (chosen or (run.uses_attention and kind == "sparse_etf")):
        return f"{plain(number(run.config.get('sparsity')))} (as configured)"
    return DASH
