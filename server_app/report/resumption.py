"""What a run was taken up with: keys that had changed, and what was missing in its folder or at a site."""

import json

from server_app.report.blocks import Block, Note, Table
from server_app.report.page import DASH
from server_app.report.record import Event, RunRecord, number, round_of


def resumption(run: RunRecord) -> list[Block]:
    """Return the tables of what changed and what was missing where the run was taken up; none if nothing did."""
    return [*_changed(run), *_missing(run)]


def _changed(run: RunRecord) -> list[Block]:
    rows = []
    for event in run.of("changed"):
        keys = event.get("keys")
        for key, values in keys.items() if isinstance(keys, dict) else ():
            both = values if isinstance(values, list) and len(values) == 2 else [DASH, DASH]
            rows.append(
                [str(round_of(event) + 1), str(key), *(json.dumps(value, ensure_ascii=False) for value in both)]
            )
    header = ["From round", "Key", "Before", "Now"]
    caption = "Keys that changed where the run was taken up"
    return [Table(caption, header, rows, ["code", "code", "code"])] if rows else []


def _missing(run: RunRecord) -> list[Block]:
    rows = [
        [str(round_of(e)), "coordinator", str(e.get("what", DASH)), str(e.get("then", DASH))] for e in run.of("missing")
    ]
    rows += [
        [str(round_of(e)), str(e.get("site", DASH)), str(e.get("what", DASH)), _went_on(e)] for e in run.of("lost")
    ]
    if not rows:
        return []
    words = "The run was taken up without something that it should have had: a run without that loss would differ."
    header = ["Round", "Where", "What", "What became of it"]
    return [Note(words), Table("What was missing", header, rows, ["code", "", ""])]


def _went_on(event: Event) -> str:
    had, has = number(event.get("had")), number(event.get("has"))
    before = f"it last trained in round {had:.0f}" if had else "it had trained before"
    return f"{before}, and {f'went on from what it had after round {has:.0f}' if has else 'began anew'}"
