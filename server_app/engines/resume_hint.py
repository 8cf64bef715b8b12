"""Adds the exact command that continues an interrupted run to its error."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from common.config import Experiment, canonical
from server_app.engines.stopping import Stopped
from server_app.run.checkpoint import checkpoint_rounds
from server_app.run.disk import make_folder
from server_app.run.resuming import run_folder


@contextmanager
def resume_hint(experiment: Experiment, config: str, words: Sequence[str], engine: str) -> Iterator[Experiment]:
    """Yield the experiment with its run's name; whatever ends the block, a note says how to go on from its checkpoint.

    Args:
        experiment: what runs.
        config: the YAML file, as it was typed.
        words: key=value, as they were typed.
        engine: what runs it; "" for the one that runs without being named.
    """
    with named_run(experiment) as (named, folder), _noted(folder, config, words, engine):
        yield named


@contextmanager
def named_run(experiment: Experiment) -> Iterator[tuple[Experiment, Path]]:
    """Yield the experiment with a name for its run, and the run's folder; where nothing comes of it, that is removed.

    Raises:
        UserError: the folder cannot be made.
    """
    named = _named(experiment)
    folder = named.run.output_dir / str(named.run.run_name)
    try:
        yield named, folder
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _noted(folder: Path, config: str, words: Sequence[str], engine: str) -> Iterator[None]:
    """Add to what ends the block a note of how to go on."""
    before = _written(folder)
    try:
        yield
    except BaseException as error:
        stopped = isinstance(error, Stopped)
        rounds = checkpoint_rounds(folder)
        command = ["fednc", "run", config, *(word for word in words if _key(word) not in ("run-name", "resume"))]
        named_run = [*command, f"run-name={folder.name}", "resume=true", *(["--engine", engine] if engine else [])]
        if rounds and (stopped or _written(folder) - before):
            start = "" if stopped else "once that is fixed, "
            error.add_note(f"{start}to continue after round {rounds[-1]}: {shlex.join(named_run)}")
        elif stopped:
            error.add_note(f"no round was kept; to begin again: {shlex.join(named_run)}")
        raise


def _named(experiment: Experiment) -> Experiment:
    """Return the experiment with a name for its run, and the folder made: another start finds it taken."""
    if experiment.run.run_name:
        return experiment
    folder = run_folder(experiment)
    make_folder(folder)
    return experiment.replace(run_name=folder.name)


def _written(folder: Path) -> set[tuple[str, int]]:
    """Return the checkpoints and when they were written: a start that was refused does not say how to start."""
    return {(path.name, path.stat().st_mtime_ns) for path in (folder / "checkpoints").glob("round-*.safetensors")}


def _key(word: str) -> str:
    return canonical(word.partition("=")[0])
