"""The last line of a run that ended before its end is the command that continues it, where there is something to."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from common.config import Experiment
from common.errors import UserError
from server_app.engines.resume_hint import resume_hint
from server_app.engines.stopping import Stopped

Tiny = Callable[..., Experiment]


def checkpoint(folder: Path, server_round: int) -> Path:
    path = folder / "checkpoints" / f"round-{server_round:05}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def notes(error: BaseException) -> list[str]:
    return list(getattr(error, "__notes__", ()))


def test_a_stopped_run_without_a_name_is_continued_by_its_folders(tiny: Tiny) -> None:
    words = ["rounds=9", "name=a b", "resume=false"]
    with pytest.raises(Stopped) as end, resume_hint(tiny(run_name=None), "x.yaml", words, "local") as named:
        assert (
            named.run.run_name and (named.run.output_dir / named.run.run_name).is_dir()
        )  # no other start takes the name
        checkpoint(named.run.output_dir / named.run.run_name, 11)
        checkpoint(named.run.output_dir / named.run.run_name, 12)
        raise Stopped(signal.SIGINT)
    assert notes(end.value) == [
        "to continue after round 12: "
        f"fednc run x.yaml rounds=9 'name=a b' run-name={named.run.run_name} resume=true --engine local"
    ]


def test_where_no_round_was_kept_it_says_so(tiny: Tiny) -> None:
    with pytest.raises(Stopped) as end, resume_hint(tiny(run_name="one"), "x.yaml", ["run-name=one"], "") as named:
        (named.run.output_dir / "one").mkdir(parents=True)
        (named.run.output_dir / "one" / "config.json").touch()
        raise Stopped(signal.SIGTERM)
    assert notes(end.value) == ["no round was kept; to begin again: fednc run x.yaml run-name=one resume=true"]
    assert named.run.run_name == "one"


def test_an_empty_folder_is_not_left(tiny: Tiny) -> None:
    with pytest.raises(UserError), resume_hint(tiny(run_name=None), "x.yaml", [], "") as named:
        raise UserError("a mistake")
    assert list(named.run.output_dir.iterdir()) == []


def test_a_failure_names_the_command_where_this_start_has_kept_a_round(tiny: Tiny) -> None:
    """A start that was refused does not."""
    old = checkpoint(tiny().run.output_dir / "run", 4)
    os.utime(old, (1e9, 1e9))
    for rounds, expected in ((), []), ((5,), ["once that is fixed, to continue after round 5: "]):
        with pytest.raises(UserError) as end, resume_hint(tiny(), "x.yaml", [], "") as named:
            for number in rounds:
                checkpoint(named.run.output_dir / "run", number)
            raise UserError("it failed")
        assert [note.partition("fednc")[0] for note in notes(end.value)] == expected
