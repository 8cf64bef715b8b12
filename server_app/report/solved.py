"""Where nothing trains: what the heads were solved of."""

from server_app.report.blocks import Block, Note, Paragraph, Table
from server_app.report.page import DASH, plain
from server_app.report.record import RunRecord, numbers, round_of


def solved_heads(run: RunRecord) -> list[Block]:
    """Return what the heads were solved of, by round, and who was withdrawn; nothing for a method that trains."""
    if run.method is None or run.method.trains:
        return []
    words = (
        "Nothing was trained: the sites sent sums of features, and the heads are the solution of equations that these "
        "determine. The same images give the same heads, bit for bit, however they are spread over sites."
    )
    rows = []
    for event in (*run.of("method"), *run.of("withdrawn")):
        images, strengths = numbers(event.get("images")), numbers(event.get("ridge_lambda"))
        without = f", without {event['site']}" if "site" in event else ""
        shown = ", ".join(dict.fromkeys(plain(value) for value in strengths)) or DASH
        total = images[: len(run.classes)] if run.multilabel else images
        sites = f"{plain(event.get('sites'))}{without}"
        rows.append([str(round_of(event)), sites, _listed(total), shown, str(event.get("sums_sha256", DASH))[:16]])
    table = Table(
        "What the generic head was solved of",
        ["Round", "Sites", "Images of each class", "λ of the ridge", "SHA-256 of the sums"],
        rows,
        ["", "", "num", "code"],
    )
    blocks: list[Block] = [Paragraph(words), table] if rows else [Paragraph(words)]
    if gone := [str(event.get("site", DASH)) for event in run.of("withdrawn")]:
        blocks.append(
            Note(
                f"Withdrawn after the run: {', '.join(gone)}. The generic model is without its part; personal "
                "metrics are of before, until the run is continued by a round."
            )
        )
    return blocks


def _listed(images: list[float | None]) -> str:
    return ", ".join(plain(number, ",.0f") for number in images) or DASH
