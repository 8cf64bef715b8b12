"""Signals end a command once, what is ignored stays ignored, and cleaning up is not disturbed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from threading import Thread

import pytest

from server_app.engines import stopping
from server_app.engines.stopping import SIGNALS, Stopped, collect_signals, ignore_signals, last_lines, raise_on_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Begin with handlers that a terminal's process has, and end with those that were there."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_is_raised_with_the_exit_code_of_a_shell(number: int, code: int) -> None:
    with pytest.raises(Stopped) as stop, raise_on_signals():
        send(number)
    assert stop.value.exit_code == code
    stop.value.add_note("to continue: fednc run")
    assert last_lines(stop.value).splitlines()[-1] == "to continue: fednc run"
    assert signal.getsignal(number) == signal.SIG_DFL


def test_a_second_signal_does_not_end_the_clean_up_and_a_later_one_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(stopping.time, "monotonic", lambda: now)
    with raise_on_signals():
        with pytest.raises(Stopped):
            send(signal.SIGINT)
        now = 104.0
        send(signal.SIGINT)
        send(signal.SIGTERM)
        now = 106.0
        with pytest.raises(Stopped):
            send(signal.SIGINT)
        with ignore_signals():
            now = 200.0
            send(signal.SIGTERM)
        with pytest.raises(Stopped):
            send(signal.SIGTERM)


def test_what_is_ignored_stays_so() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with raise_on_signals():
        send(signal.SIGHUP)
    with collect_signals() as received:
        send(signal.SIGHUP)
        send(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_outside_the_main_thread_nothing_is_handled() -> None:
    def work() -> None:
        with raise_on_signals(), collect_signals(), ignore_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    seen: list[object] = []
    thread = Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_who_is_stopped_waits_for_no_thread() -> None:
    program = (
        "import threading, time; from server_app.engines.stopping import *\n"
        "threading.Thread(target=time.sleep, args=(900,)).start()\n"
        "print('some output', end='')\n"
        "try:\n    with raise_on_signals(): signal.raise_signal(15)\n"
        "except Stopped as stop: stop.add_note('the last line'); exit_now(stop)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (143, "some output")
    assert done.stderr == "stopped (SIGTERM)\nthe last line\n"
