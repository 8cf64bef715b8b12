"""What a person reads of a check: names are shown as they are, whatever they look like."""

import io

from rich.console import Console

from client_app.preflight.checks import Findings
from client_app.preflight.table import show
from client_app.site.listing import Problem

EVIL = ("[red]", "[/]", "[link=http://e.vil]x", ":heart:", "a\\", "\x1b[31mx")


def test_names_are_neither_markup_nor_emoji_nor_control_codes() -> None:
    images = {"train": 3, "test": 2, "patients": None, "several_labels": False, "sizes": []}
    facts = {"images": images, "data": EVIL[0], "classes": {name: {"train": 1, "test": 1} for name in EVIL}}
    findings = Findings(
        site=EVIL[2],
        problems=[Problem(EVIL[1], EVIL[0], EVIL[3])],
        warnings=[Problem(EVIL[3], EVIL[4], EVIL[5])],
        facts=facts,
    )
    output = io.StringIO()
    show(findings, Console(file=output, width=160, force_terminal=True, color_system=None))
    shown = output.getvalue()
    for name in EVIL[:5]:
        assert f" {name} " in shown or f"{name}\n" in shown, name
    assert "e.vil]x" in shown and "♥" not in shown and "❤" not in shown
    assert "\x1b[31m" not in shown and "[31mx" in shown
