"""Section 5: which classes the generic model takes for which."""

from collections import Counter

from server_app.report.blocks import Block, Paragraph, Table, figure
from server_app.report.charts import numbers_of_columns, share_map
from server_app.report.headline import head_name, reported_generic
from server_app.report.page import percent
from server_app.report.record import RunRecord

_MOST_CLASSES = 40  # of more, those that are in most mistakes are shown
_MOST_PAIRS = 15
_OTHERS = "any other class"


def confusion(run: RunRecord) -> list[Block]:
    """Return the confusion matrix of the reported head and the pairs most confused; nothing if none was recorded."""
    reported = reported_generic(run)
    cells = run.confusion(reported[0]) if reported else {}
    cells = {pair: images for pair, images in cells.items() if max(pair) < len(run.classes)}
    if reported is None or not cells:
        return []
    head = head_name(reported[0], run)
    shown = _shown(run, cells)
    left_out = len(run.classes) - len(shown)
    shares = _shares(shown, cells, with_others=left_out > 0)
    names = [run.classes[c] for c in shown]
    columns = [*names, _OTHERS] if left_out else names
    words = (
        f"What the generic model ({head}) answers on the coordinator's test images: a row is the true class, a column "
        "the answer; shares of the row's images. What stands on the diagonal is right."
    )
    if left_out:
        words += (
            f" Shown are the {len(shown)} of {len(run.classes)} classes that most mistakes are about, from most to "
            f"fewest training images; the last column is {_OTHERS}."
        )
    words += numbers_of_columns(len(columns))
    label = f"Confusion matrix of the generic model, {head}: shares of each class's test images"
    return [*figure(share_map("confusion", names, columns, shares, label), words), *_pairs(run, cells)]


def _shown(run: RunRecord, cells: dict[tuple[int, int], int]) -> list[int]:
    """The classes of the matrix, in the order of the page."""
    if len(run.classes) <= _MOST_CLASSES:
        return run.class_order
    mistakes: Counter[int] = Counter()
    for (true, answer), images in cells.items():
        if true != answer:
            mistakes.update({true: images, answer: images})
    worst = {c for c, _ in mistakes.most_common(_MOST_CLASSES)}
    return [c for c in run.class_order if c in worst] or run.class_order[:_MOST_CLASSES]


def _shares(shown: list[int], cells: dict[tuple[int, int], int], *, with_others: bool) -> list[list[float | None]]:
    """Shares of each row's images [rows, columns]; None in the row of a class without test images."""
    totals = _totals(cells)
    rows: list[list[float | None]] = []
    for true in shown:
        images = totals[true]
        row = [cells.get((true, answer), 0) for answer in shown]
        row += [images - sum(row)] if with_others else []
        rows.append([n / images if images else None for n in row])
    return rows


def _pairs(run: RunRecord, cells: dict[tuple[int, int], int]) -> list[Block]:
    """The mistakes that were made most often, as a table."""
    totals = _totals(cells)
    wrong = sorted(((n, *pair) for pair, n in cells.items() if pair[0] != pair[1]), key=lambda row: (-row[0], row[1:]))
    if not wrong:
        return [Paragraph("Every test image was answered rightly.")]
    rows = [
        [run.classes[true], run.classes[answer], f"{n:,}", percent(n / totals[true])]
        for n, true, answer in wrong[:_MOST_PAIRS]
    ]
    shown, made = (sum(n for n, *_ in part) for part in (wrong[:_MOST_PAIRS], wrong))
    caption = f"The most frequent mistakes: {shown:,} of the {made:,} images that were answered wrongly"
    header = ["True class", "Answered", "Images", "Share of the class"]
    return [Table(caption, header, rows, ["", "num", "num"])]


def _totals(cells: dict[tuple[int, int], int]) -> Counter[int]:
    """Test images of each class."""
    totals: Counter[int] = Counter()
    for (true, _), images in cells.items():
        totals[true] += images
    return totals
