"""What may be wrong with a manifest's words: labels, patients and sites that look alike, or a list within a label."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable

from common.data.sources.file_sets import Report
from common.data.sources.manifest_rows import ManifestTable
from common.names import closest, lookalikes, rename_hint

_WHOLE = re.compile(r"(\d+)(?:\.0*)?")


def report_labels(
    table: ManifestTable, classes: Collection[str] | None, report: Report, meaning: Callable[[str], str] = str
) -> None:
    """Report each row whose label is no class, and the first row of each label that may be another one.

    Args:
        table: of `read_rows`.
        classes: those of classes.txt; None: any label is one, but no two may look alike, and none may be a list.
        report: gets them.
        meaning: of a word the class that it stands for.
    """
    if classes is None:
        _report_alike(((1, name) for name in table.columns), "column", report, meaning)
        if not table.columns:
            _report_alike(((row.number, word) for row in table.rows for word in row.words), "label", report, meaning)
    for row in table.rows:
        for word in row.words:
            if classes is not None and meaning(word) not in classes:
                report(row.number, f"label '{word}' is not in classes.txt; {spelling_hint(word, classes)}add it there")
            elif classes is None and "labels" in table.header and "," in word:
                parts = "|".join(part.strip() for part in word.split(","))
                report(
                    row.number,
                    f"label '{word}' has a comma: did you mean '{parts}'? Write | between labels; if it is one class, "
                    "list the classes in classes.txt",
                )


def spelling_hint(word: str, classes: Collection[str]) -> str:
    """Return "did you mean …? " with the class, or classes, that an unknown word probably stands for; else ''."""
    parts = [part.strip() for part in re.split("[,|;]", word)]
    if len(parts) > 1 and all(part in classes for part in parts):
        return f"did you mean '{'|'.join(parts)}'? "
    return f"did you mean '{near}'? " if (near := closest(word, classes)) else ""


def report_patients(table: ManifestTable, report: Report) -> tuple[str, ...]:
    """Report sites that look alike and a patient whose number is written in two ways, `3` and `3.0`.

    Returns:
        Notes of patients that look alike otherwise: in some clinics `a1` and `A1` are two people.
    """
    _report_alike(((row.number, row.site) for row in table.rows if row.site), "site", report)
    notes: list[str] = []

    def patient(number: int, reason: str) -> None:
        notes.append(f"line {number}: {reason}")

    lines = [(row.number, row.patient) for row in table.rows if row.patient]
    whole = {word: found[1] for _, word in lines if (found := _WHOLE.fullmatch(word))}
    _report_alike(lines, "patient", report, alike=lambda one, other: whole.get(one, one) == whole.get(other, other))
    _report_alike(lines, "patient", patient, alike=lambda one, other: whole.get(one, one) != whole.get(other, other))
    return tuple(notes)


def _report_alike(
    words: Iterable[tuple[int, str]],
    what: str,
    report: Report,
    meaning: Callable[[str], str] = str,
    alike: Callable[[str, str], bool] = lambda one, other: True,
) -> None:
    """Report the first line of each word that looks like an earlier one, which it does not stand for."""
    lines: dict[str, int] = {}
    often: Counter[str] = Counter()
    for number, word in words:
        lines.setdefault(word, number)
        often[word] += 1
    for word, other in lookalikes(lines):
        if meaning(word) != meaning(other) and alike(word, other):
            report(
                lines[word],
                f"{what} '{word}' ({_lines(often[word])}) looks like '{other}' of line {lines[other]} "
                f"({_lines(often[other])}): {rename_hint(word, other)}",
            )


def _lines(number: int) -> str:
    return f"{number} line{'' if number == 1 else 's'}"
