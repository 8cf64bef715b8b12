"""The findings of `fednc-site check` as tables for a person."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from client_app.preflight.checks import Findings
from client_app.site.listing import Problem
from common.data.images.decode_all import format_bytes
from common.errors import one_line

_SHOWN = 20  # reasons of one kind; JSON has all
_LINES = 8  # of one reason


def show(findings: Findings, console: Console) -> None:
    """Print facts, then warnings and problems, then the verdict."""
    facts = findings.facts
    if "images" in facts:
        console.print(_images(findings.site, facts))
        console.print(_classes(facts["classes"]))
    if rows := _machine(facts):
        table = Table("", "", title="Machine and coordinator", title_justify="left", show_header=False)
        for name, value in rows:
            table.add_row(name, _text(value))
        console.print(table)
    for title, colour, problems in (
        ("Warnings", "yellow", findings.warnings),
        ("Problems", "red", findings.problems),
    ):
        if problems:
            console.print(_problems(title, colour, problems))
    if findings.problems:
        console.print(f"[red]not ready[/]: {_count(len(findings.problems), 'problem')} to mend")
    else:
        console.print(f"[green]ready[/]: no problems, {_count(len(findings.warnings), 'warning')}")
        console.print("Whether the coordinator knows this site's key shows when it joins.")


def _images(site: str, facts: dict[str, Any]) -> Table:
    images = facts["images"]
    table = Table("", "", title=_text(f"Images of {site}"), title_justify="left", show_header=False)
    table.add_row("data", _text(facts["data"]))
    table.add_row("training, test", f"{images['train']}, {images['test']}")
    table.add_row("patients", str(images["patients"] or "not named"))
    table.add_row("labels", "several an image" if images["several_labels"] else "one an image")
    if sizes := images["sizes"]:
        table.add_row("colours", ", ".join(f"{number} {colour}" for colour, number in images["colours"].items()))
        shown = [f"{size['images']} of {size['width']}×{size['height']}" for size in sizes[:5]]
        more = [f"{len(sizes) - 5} other sizes"] if len(sizes) > 5 else []
        table.add_row("width × height", ", ".join(shown + more))
    return table


def _classes(counts: dict[str, dict[str, int]]) -> Table:
    table = Table("class", title="Labels", title_justify="left")
    table.add_column("training", justify="right")
    table.add_column("test", justify="right")
    for name, of in counts.items():
        table.add_row(_text(name), str(of["train"]), str(of["test"]))
    return table


def _machine(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = []
    if device := facts.get("device"):
        gpu = f", {device['gpu_free_gib']} of {device['gpu_gib']} GiB free" if "gpu_gib" in device else ""
        rows += [("device", device["name"] + gpu), ("memory", f"{device['memory_gib']} GiB, {device['cpus']} CPUs")]
    if cache := facts.get("cache"):
        needed, there, free = (format_bytes(cache[f"{what}_bytes"]) for what in ("needed", "there", "free"))
        needs = f"{needed} needed, " if cache["needed_bytes"] else ""
        rows.append(("decoded images", f"{needs}{there} there, {free} free"))
        rows.append(("their folder", f"{cache['folder']}, for this user alone; may be deleted"))
    if batch := facts.get("batch"):
        peak = f", {batch['gpu_peak_gib']} GiB" if batch["gpu_peak_gib"] is not None else ""
        rows.append((f"batch of {batch['images']}", f"{batch['seconds'] * 1000:.0f} ms{peak}"))
    if rounds := facts.get("rounds"):
        rows += _rounds(rounds)
    if answer := facts.get("coordinator"):
        way = f"{answer['protocol']}, {answer['milliseconds']:.0f} ms, {answer['through']}"
        rows.append(("coordinator", f"{answer['address']}: {way}"))
        rows.append(("its certificate", f"until {answer['certificate_ends']}, {answer['days_left']} days"))
    return rows


def _rounds(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what a run with frozen stages costs: once, and in each round."""
    kept, free, first, later, reply = (
        format_bytes(facts[f"{what}_bytes"]) for what in ("cache", "free", "first", "later", "reply")
    )
    rows = [
        ("a round", f"about {_duration(facts['round_seconds'])}"),
        ("its messages", f"{later} from the coordinator, the first {first}; {reply} to it"),
    ]
    if images := facts["cached_images"]:
        rows = [
            ("frozen stages", f"about {_duration(facts['fill_seconds'])}, once, for {images} images"),
            ("their output", f"{kept}, of {free} free, in {facts['cache_folder']}; may be deleted"),
            *rows,
        ]
    return rows


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _problems(title: str, colour: str, problems: list[Problem]) -> Table:
    """Return a line for each reason, with the lines of the manifest that have it."""
    table = Table("", title=f"[{colour}]{title}[/]", title_justify="left")
    table.add_column("where", overflow="fold", ratio=1)
    table.add_column("what", overflow="fold", ratio=2)
    for kind in dict.fromkeys(problem.kind for problem in problems):
        alike: dict[str, list[Problem]] = {}
        for problem in problems:
            if problem.kind == kind:
                alike.setdefault(problem.reason, []).append(problem)
        for reason, found in list(alike.items())[:_SHOWN]:
            table.add_row(_text(kind), _text(_where(found)), _text(reason))
        if len(alike) > _SHOWN:
            table.add_row(_text(kind), "", f"and {len(alike) - _SHOWN} more; --json writes all")
    return table


def _text(words: str) -> Text:
    """Return words that came from elsewhere as they are: neither [red] nor :heart: in them is anything else."""
    return Text(one_line(words))


def _where(problems: list[Problem]) -> str:
    rows = [str(problem.row) for problem in problems if problem.row is not None]
    if not rows:
        return ", ".join(problem.place for problem in problems[:_LINES])
    more = f" and {len(rows) - _LINES} more" if len(rows) > _LINES else ""
    return f"line{'' if len(rows) == 1 else 's'} {', '.join(rows[:_LINES])}{more}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
