"""`fednc withdraw`: take a site's part out of a run whose head is solved, as if the site had never taken part."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment, build
from common.errors import UserError, unknown
from common.files import arrays_digest
from common.methods import METHODS
from common.wire import Arrays, pack
from server_app.app import finish, generic_evaluation
from server_app.checks.feasibility import check_feasible
from server_app.generic.evaluation import GenericEvaluation
from server_app.methods import load as load_method
from server_app.methods.fed3r import SolvedHead
from server_app.rounds.messages import as_broadcast
from server_app.run.checkpoint import Checkpoint, kept_checkpoints, save_checkpoint
from server_app.run.disk import locked
from server_app.run.journal import WITHDRAWN, Journal, log, read_json
from server_app.run.metrics import generic_facts


def withdraw(folder: Path, site: str) -> None:
    """Subtract a site's sums in every checkpoint, solve again, and write the generic model, summary and report anew.

    Sums are whole numbers, so that what is left is what it would be had the site never taken part, bit for bit.

    Args:
        folder: a run's.
        site: whose part is taken out; a later start of the run leaves it out, too.

    Raises:
        UserError: no such run or site, a method whose sites train, a run that is at work or damaged; nothing has
            changed then.
    """
    experiment = _experiment_of(folder)
    with locked(folder):
        federation, checkpoints = check_feasible(experiment), kept_checkpoints(folder)
        method = load_method(experiment.method)(experiment, federation)
        assert isinstance(method, SolvedHead)
        digest = arrays_digest({method.extra: _sums_of(site, checkpoints, folder)})
        changed = [_without(site, checkpoint, method) for checkpoint in checkpoints]
        journal = Journal(folder, experiment)
        gone = read_json(folder / WITHDRAWN) | {site: {"sums_sha256": digest, "time": round(time.time())}}
        journal.write_json(WITHDRAWN.removesuffix(".json"), gone)
        for checkpoint in changed:
            save_checkpoint(folder, checkpoint, len(changed))
        last = changed[-1]
        _, facts = method.solve(bias=method.has_bias)
        journal.event("withdrawn", round=last.server_round, site=site, removed_sha256=digest, **facts)
        evaluation, _ = generic_evaluation(journal, experiment, federation, log_it=False)
        arrays = as_broadcast(pack(last.arrays), experiment)[1]
        _evaluate(journal, evaluation, arrays, last.server_round)
        finish(journal, evaluation, arrays, experiment, federation)
    log.info("withdrawn: %s; the generic model is solved of %d sites", site, len(last.method))
    log.info(
        "the other sites' personal models still have its part: to solve them again, run once more with resume=true and "
        "rounds=%d. What it declared and measured stays in the journal",
        last.server_round + 1,
    )


def _experiment_of(folder: Path) -> Experiment:
    """Return a run's experiment, if a site's part can be taken out of it."""
    values = read_json(folder / "config.json")
    if not values:
        raise UserError(f"{folder} is not a run's folder: it has no config.json")
    here: dict[str, Any] = {"output-dir": str(folder.resolve().parent), "run-name": folder.resolve().name}
    experiment = build(values | here | {"resume": True}, str(folder / "config.json"))
    if METHODS[experiment.method].trains:
        title = METHODS[experiment.method].title
        raise UserError(
            f"{folder}: {title}'s model was trained, and nothing takes a site's part out of it; begin a new run "
            "without the site"
        )
    return experiment


def _sums_of(site: str, checkpoints: list[Checkpoint], folder: Path) -> npt.NDArray[np.int64]:
    """Return the sums that the last checkpoint has of a site.

    Raises:
        UserError: it has none, or nobody else's.
    """
    held = checkpoints[-1].method if checkpoints else {}
    if site not in held and site in read_json(folder / WITHDRAWN):
        raise UserError(f"{folder}: '{site}' was withdrawn before")
    if site not in held:
        raise unknown("site", site, sorted(held))
    if len(held) == 1:
        raise UserError(f"{folder}: '{site}' is the only site of this run; remove the folder instead")
    return held[site]


def _without(site: str, checkpoint: Checkpoint, method: SolvedHead) -> Checkpoint:
    """Return a checkpoint as it would be had the site never taken part; the method then has what is left."""
    left, sites, trained = (
        {name: array for name, array in of.items() if name != site}
        for of in (checkpoint.method, checkpoint.sites, checkpoint.trained)
    )
    method.restore(left)
    head = method.solve(bias=method.has_bias)[0] if left else {}
    return replace(checkpoint, arrays=checkpoint.arrays | head, method=left, sites=sites, trained=trained)


def _evaluate(journal: Journal, evaluation: GenericEvaluation, arrays: Arrays, server_round: int) -> None:
    """Measure the generic model on the coordinator's test images, as at the end of a run."""
    for head, report in evaluation(arrays).items():
        facts = generic_facts(report, final=True)
        journal.event("generic", round=server_round, stage="final", head=head, **facts)
