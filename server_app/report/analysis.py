"""What `analysis.json` says, read with care: whatever does not fit becomes None or empty."""

from server_app.report.record import RunRecord, number, numbers

Matrix = list[list[float | None]]


def part(run: RunRecord, name: str) -> dict[str, object]:
    """Return a part of the analysis, empty if there is none."""
    value = run.analysis.get(name)
    return value if isinstance(value, dict) else {}


def has_backbone(run: RunRecord) -> bool:
    """Whether there is a generic backbone to look into: none where BatchNorm is each site's own."""
    return run.method is None or not run.method.local_norm


def class_indices(values: object, run: RunRecord) -> list[int]:
    """Return a list of class indices; empty if one of them is no class."""
    found = [int(c) if c is not None and 0 <= c < len(run.classes) else -1 for c in numbers(values)]
    return [] if -1 in found else found


def square(values: object, size: int) -> Matrix:
    """Return a matrix [size, size] of numbers or None; empty if it has another shape."""
    rows = [numbers(row) for row in values] if isinstance(values, list) else []
    return rows if len(rows) == size and all(len(row) == size for row in rows) else []


def whole(value: object) -> int | None:
    """Return a whole number, or None for anything else."""
    known = number(value)
    return None if known is None else int(known)


def shown_of(count: int, run: RunRecord) -> str:
    """Return which classes are shown, where not all are, as a sentence with a space before it."""
    if count >= len(run.classes):
        return ""
    return f" Shown are {count} of the {len(run.classes)} classes: those with the most and the fewest images."
