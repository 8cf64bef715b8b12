"""What a coordinator's words can do to a site's log: nothing but be read."""

import pytest

from client_app.site.log import log_warning, redact_error
from common.errors import RefusalError, UserError

FORGED = "2026-11-21 10:00:00,000 round 7: got 3 bytes of arrays"
WORDS = f"pilot\n{FORGED}\r{FORGED}\u2028{FORGED}\x1b[2J\x85{FORGED}"


def lines_of(printed: str) -> list[str]:
    assert "\x1b" not in printed and "\r" not in printed
    return printed.splitlines()


def test_a_remark_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    log_warning(f"/state/models/{WORDS}: personal parts of another run are not used")
    (line,) = lines_of(capsys.readouterr().out)
    assert f"pilot {FORGED} {FORGED}" in line and line.endswith("are not used")


def test_a_failure_is_told_with_its_traceback_and_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        try:
            raise KeyError("the first mistake")
        except KeyError as cause:
            raise ValueError(WORDS) from cause
    except ValueError as error:
        assert str(redact_error(error)) == "the site failed (ValueError); its own log says why"
    first, *rest = lines_of(capsys.readouterr().out)
    assert f"error: pilot {FORGED} {FORGED}" in first
    assert all(line.startswith("|") for line in rest)
    text = "\n".join(rest)
    assert (
        "KeyError: 'the first mistake'" in text and "direct cause" in text and "|     raise ValueError(WORDS)" in text
    )


def test_a_persons_mistake_is_told_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    redact_error(UserError(f"/data/x.png: {WORDS}"))
    refusal = RefusalError("this site refuses 5 epochs a round")
    assert redact_error(refusal) is refusal
    first, second = lines_of(capsys.readouterr().out)
    assert "error: /data/x.png: pilot" in first and second.endswith("error: this site refuses 5 epochs a round")
