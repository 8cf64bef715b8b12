"""Section 8: configuration, versions, traffic and time."""

import json
from statistics import mean

from server_app.report.blocks import Block, Details, Note, Paragraph, Table, figure
from server_app.report.charts import Series, line_chart
from server_app.report.page import DASH, plain
from server_app.report.record import Event, RunRecord, number, reason_of, round_of
from server_app.report.resumption import resumption
from server_app.report.words import unrecorded


def setup(run: RunRecord) -> list[Block]:
    """Return what the run cost, what was noted about its images, its configuration and the versions it ran on."""
    config = [[key, _value(value)] for key, value in run.config.items()]
    versions = [[name, str(version)] for name, version in run.versions.items()]
    return [
        *_cost(run),
        *_notes(run),
        *resumption(run),
        Paragraph("Folders of the machine that the run was made on are left out; its config.json names them."),
        Table("Configuration", ["Key", "Value"], config, ["code"]) if config else Paragraph("No configuration."),
        Table("Versions", ["Package", "Version"], versions, ["code"]) if versions else Paragraph("No versions."),
    ]


def _notes(run: RunRecord) -> list[Block]:
    """Return how many notes there are: they name files, which may be named after patients, and a page is handed on."""
    number = len(run.federation.get("notes") or ())
    if not number:
        return []
    what = "There is 1 note" if number == 1 else f"There are {number} notes"
    return [Paragraph(f"{what} about the images (files skipped, copies, …) in the run's federation.json and log.")]


def size(value: object) -> str:
    """Return a number of bytes in readable units (1 MB = 10⁶ bytes), or a dash if unknown."""
    count = number(value)
    if count is None:
        return DASH
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(value: object) -> str:
    """Return seconds in readable units, or a dash if unknown."""
    seconds = number(value)
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min {seconds % 60:.0f} s"


def _cost(run: RunRecord) -> list[Block]:
    rounds = run.of("round")
    if not rounds:
        return unrecorded(run, "No round was completed.")
    rows = []
    for name, key, form in (
        ("Time", "seconds", duration),
        ("Sent to the sites", "bytes_down", size),
        ("Received from the sites", "bytes_up", size),
    ):
        known = [value for event in rounds if (value := number(event.get(key))) is not None]
        rows.append([name, form(mean(known)), form(max(known)), form(sum(known))] if known else [name, *[DASH] * 3])
    epochs = number(run.config.get("local-epochs")) or 1
    rates = [
        epochs * images / seconds
        for event in rounds
        if (images := number(event.get("images"))) and (seconds := number(event.get("seconds")))
    ]
    if rates:
        rows.append(["Training images × local epochs a second", f"{mean(rates):,.0f}", f"{max(rates):,.0f}", DASH])
    answered, asked = (sum(number(e.get(key)) or 0 for e in rounds) for key in ("answered", "asked"))
    words = (
        f"{len(rounds):,} rounds; {answered:,.0f} of {asked:,.0f} requests to sites were answered. Bytes are those "
        "of all sites together. Time is from the request to the averaged model; the coordinator's own evaluation "
        "and what follows the last round (realignment, fine-tuning) come on top."
    )
    header = ["", "Mean of a round", "Largest round", "All rounds"]
    table = Table("Time and traffic of the training rounds", header, rows)
    return [Paragraph(words), *_rejected(run), table, *_seconds(rounds), _by_round(rounds)]


def _rejected(run: RunRecord) -> list[Block]:
    rows = [[str(round_of(e)), str(e.get("site", DASH)), reason_of(e) or DASH] for e in run.of("rejected")]
    if not rows:
        return []
    table = Table("Replies that were left out", ["Round", "Site", "Reason"], rows, ["", "code"])
    return [
        Note(f"{len(rows):,} replies of sites could not be used and were left out."),
        table if len(rows) <= 12 else Details("Each of them, with the reason", [table]),
    ]


def _seconds(rounds: list[Event]) -> list[Block]:
    series = Series("seconds", [(float(round_of(e)), number(e.get("seconds"))) for e in rounds], 0)
    return figure(
        line_chart("seconds-by-round", [series], "round", "seconds", "Seconds that each round took"),
        "Seconds that each round took.",
    )


def _by_round(rounds: list[Event]) -> Block:
    rows = [
        [
            str(round_of(e)),
            f"{plain(e.get('answered'), '.0f')} of {plain(e.get('asked'), '.0f')}",
            duration(e.get("seconds")),
            size(e.get("bytes_down")),
            size(e.get("bytes_up")),
        ]
        for e in rounds
    ]
    header = ["Round", "Sites answered", "Time", "Sent", "Received"]
    return Details("Every round as a table", [Table("Time and traffic by round", header, rows)])


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
