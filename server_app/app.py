"""The ServerApp: prepare, run the rounds, realign, personalise, report. The whole job on one screen."""

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common import wire
from common.config import APP_ROOT, Experiment, from_run_config
from common.config.overrides import not_applied
from common.data import Federation, build_federation
from common.data.sources.checks import named
from common.errors import UserError
from common.files import read_own, save_arrays
from common.installed import check_installed
from common.methods import METHODS
from common.metrics import groups
from common.models.description import describe as describe_model
from common.models.description import header
from common.models.heads import class_vectors
from common.models.model import (
    build_model,
    coordinator_state,
    feature_dim,
    fixed_state,
    frame_kind,
    shared_state,
    uses_attention,
)
from common.models.trained import GENERIC, QUERY
from common.models.weights import pin_weights
from common.own_packages import hidden_by_us
from server_app.aggregation.robust import check_enough_sites
from server_app.checks.feasibility import check_feasible
from server_app.frames.build import build_frame
from server_app.generic.beginning import (
    announce_sums,
    announce_trunk,
    start_from_weights,
    warn_of_local_statistics,
    warn_of_slow_precision,
)
from server_app.generic.evaluation import GenericEvaluation
from server_app.generic.multilabel_analysis import AnalysisInput, write_analysis
from server_app.grids.streaming import StreamingGrid
from server_app.methods import load as load_method
from server_app.report import write_report
from server_app.rounds.head_start import start_from_sums
from server_app.rounds.messages import as_broadcast
from server_app.rounds.strategy import FedStrategy
from server_app.run.checkpoint import Checkpoint, load_checkpoint
from server_app.run.disk import locked
from server_app.run.journal import Journal, log, percent, quiet_logging
from server_app.run.resuming import ResumeCheck, run_folder
from server_app.run.splits import has_assignment, write_assignment
from server_app.run.summary import summarise
from server_app.sites.discovery import SiteFacts, discover_sites
from server_app.sites.newcomers import leave_out_withdrawn, reconcile_sites
from server_app.sites.waiting import wait_for_sites

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Flower's entry point: read the experiment from the run-config and run it."""
    quiet_logging()
    try:
        experiment = from_run_config(context.run_config)
        for line in not_applied(context.run_config, experiment):
            log.info(line)
        run(StreamingGrid(grid), experiment)
    except (UserError, wire.WireError) as error:
        log.error("error: %s", error)
        sys.tracebacklimit = 0  # Flower prints what ends a run: the line above says it, frames would hide it
        raise


def run(grid: Grid, experiment: Experiment) -> Path:
    """Run one experiment on any engine and return its folder.

    Raises:
        UserError: a configuration or data problem that the user can fix.
        wire.WireError: no site can take part, or none answers any more.
    """
    check_installed(__file__)
    for line in hidden_by_us(APP_ROOT):
        log.warning(line)
    deployed = experiment.sites.partition == "deployed"
    if not deployed:
        experiment = fit_to_nodes(experiment, len(list(grid.get_node_ids())))
    experiment = pin_weights(experiment)
    torch.set_num_threads(experiment.run.threads or torch.get_num_threads())  # equal threads, equal sums
    federation = check_feasible(experiment)
    folder = run_folder(experiment)
    roster = wait_for_sites(grid, experiment) if deployed else None
    with locked(folder):
        resuming = ResumeCheck(folder, experiment, has_assignment(federation))
        resuming.check_data(*federation_facts(federation, experiment))
        with (journal := Journal(folder, experiment)).record_failure():
            checkpoint = load_checkpoint(folder) if experiment.run.resume else None
            journal.rewind(checkpoint.server_round if checkpoint else 0)
            resuming.log_changes(journal, checkpoint)
            for node, reason in roster.rejected.items() if roster else ():
                journal.event("left-out", node=node, reason=reason)
            sites = (
                roster.sites if roster else discover_sites(grid, experiment, experiment.rounds.round_timeout, journal)
            )
            _run(grid, experiment, federation, sites, journal, checkpoint)
    return journal.folder


def _run(
    grid: Grid,
    experiment: Experiment,
    federation: Federation,
    sites: dict[str, SiteFacts],
    journal: Journal,
    checkpoint: Checkpoint | None,
) -> None:
    """Run the rounds that are left, and what comes after them."""
    done = checkpoint.server_round if checkpoint else 0
    if not checkpoint:
        journal.delete_site_files()
    if experiment.sites.partition == "deployed" and (absent := reconcile_sites(journal, sites, done + 1)):
        log.warning("not there any more: %s; the run goes on without, until it is back", ", ".join(absent))
    sizes = {name: {"num_train": facts.num_train, "num_test": facts.num_test} for name, facts in sorted(sites.items())}
    if experiment.sites.partition != "deployed":
        journal.write_unchanged_json("sites", sizes)
    sites = leave_out_withdrawn(sites, journal)
    check_enough_sites(experiment, sites)
    journal.begin(experiment, done, sizes)
    describe(journal, experiment, federation, sites)
    write_assignment(journal.folder, federation)

    row = METHODS[experiment.method]
    evaluation, frame = generic_evaluation(journal, experiment, federation, log_it=not checkpoint)
    warn_of_unmeasured(evaluation)
    warn_of_local_statistics(experiment)
    warn_of_slow_precision(experiment, next(evaluation.model.parameters()).device)
    announce_trunk(evaluation.model, experiment, federation)
    head = start_from_sums(grid, experiment, federation, sites, journal, evaluation.model)
    method = load_method(experiment.method)(experiment, federation)
    start = shared_state(evaluation.model, row) | coordinator_state(evaluation.model, row)
    announce_sums(experiment, method.extras_bytes(start))
    if checkpoint:
        log.info("taken up after round %d of %d", done, experiment.rounds.rounds)
        method.restore(checkpoint.method)
        start = checkpoint.arrays
    frame_array = None if frame is None else frame.numpy()
    multilabel = federation.dataset.multilabel
    trained = [name for name, _ in evaluation.model.named_parameters()]
    fixed = fixed_state(evaluation.model, row, experiment)
    strategy = FedStrategy(
        *(experiment, sites, journal, frame_array, evaluation, method, done),
        multilabel=multilabel,
        trained=trained,
        fixed=fixed,
        head=head,
    )
    if checkpoint:
        strategy.cooldown.restore(checkpoint.sites)
        strategy.personal_parts.restore(checkpoint.trained)
        strategy.optimiser.restore(checkpoint.optimiser)
    result = strategy.start(grid, wire.pack(start), experiment.rounds.rounds, experiment.rounds.round_timeout)
    last, arrays = as_broadcast(result.arrays, experiment)
    strategy.personalise(grid, last)
    finish(journal, evaluation, arrays, experiment, federation)


def generic_evaluation(
    journal: Journal, experiment: Experiment, federation: Federation, *, log_it: bool
) -> tuple[GenericEvaluation, torch.Tensor | None]:
    """Return what evaluates the generic model, which is as the run begins with it, and the fixed frame [C, d]."""
    model = build_model(experiment, federation.dataset.train.channels, len(federation.dataset.classes))
    frame = fixed_frame(journal, experiment, len(federation.dataset.classes), feature_dim(model.backbone))
    known = len(federation.site_names) > 0  # real sites do not report how many images a class has
    shot = groups(federation.class_counts) if known else {"many": [], "medium": [], "few": []}
    evaluation = GenericEvaluation(experiment, federation.dataset, shot, frame)
    start_from_weights(evaluation.model, experiment, journal, log_it=log_it)
    return evaluation, frame


def fit_to_nodes(experiment: Experiment, nodes: int) -> Experiment:
    """Take the number of sites from the federation, saying so in one line where the experiment has another."""
    if not nodes:
        raise wire.WireError("no site is connected: start at least one")
    wanted = experiment.sites.sites
    if experiment.sites.partition == "natural":
        wanted = len(build_federation(experiment).site_names)
    if nodes == wanted:
        return experiment
    option = f"--federation-config 'num-supernodes={wanted}'"
    if experiment.sites.partition == "natural":
        raise UserError(f"the data has {wanted} sites, Flower's federation {nodes}: run again with {option}")
    log.warning(
        "Flower's federation has %d sites, the experiment %d: running with %d; for %d add %s",
        nodes, wanted, nodes, wanted, option,
    )  # fmt: skip
    return experiment.replace(sites=nodes)


def fixed_frame(journal: Journal, experiment: Experiment, num_classes: int, dim: int) -> torch.Tensor | None:
    """Return the run's fixed frame [C, d], None for a method without: built once, and the same after a restart."""
    if not frame_kind(experiment):
        return None
    path = journal.folder / "frame.safetensors"
    if experiment.run.resume and path.exists():
        return torch.from_numpy(read_own(path, "remove it, and it is built anew")["frame"])
    frame, quality = build_frame(experiment, num_classes, dim)
    journal.write_json("frame", asdict(quality))
    save_arrays(path, {"frame": frame.numpy()}, {})
    return frame


def describe(journal: Journal, experiment: Experiment, federation: Federation, sites: Mapping[str, SiteFacts]) -> None:
    """Log what will run, and write what is known of the sites: in a simulation everything, else what they declare."""
    counts, row, dataset = federation.class_counts, METHODS[experiment.method], federation.dataset
    log.info(
        "%s: %s on %s, %d sites, %d training images in %d classes%s, seed %d",
        experiment.name, row.title, dataset.name, len(sites), sum(site.num_train for site in sites.values()),
        len(counts), f" (largest {counts.max()}, smallest {counts.min()})" if counts.any() else "", experiment.run.seed,
    )  # fmt: skip
    if experiment.data.evaluate_on == "validation":
        log.info(
            "evaluate-on: validation: metrics are of %d held-out training images, none of test images",
            len(dataset.test),
        )
    if dealt := federation.partition_report:
        log.info(
            "a site lacks %s of the classes (asked: %s); %s of the images dropped, %s of the labels hidden",
            *(percent(dealt[key]) for key in ("missing", "missing_asked", "dropped", "hidden")),
        )
        if lonely := dealt["lonely_classes"]:
            log.warning("at fewer than two sites: %s", ", ".join(dataset.classes[c] for c in lonely))
    for note in dataset.notes:
        log.warning("%s: %s", dataset.name, note)
    log.info("run's folder: %s", journal.folder)
    facts, free = federation_facts(federation, experiment)
    journal.write_unchanged_json("federation", {"site_names": journal.site_names()} | facts, free)


def federation_facts(federation: Federation, experiment: Experiment) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what `federation.json` says, and which of its keys may change where a run is taken up.

    Real sites report no counts; their names come from the sites.
    """
    dataset, simulated = federation.dataset, bool(federation.site_names)
    facts: dict[str, Any] = {
        "classes": list(dataset.classes),
        "simulated": simulated,
        "num_test": len(dataset.test),
        "evaluate_on": experiment.data.evaluate_on,
        "multilabel": dataset.multilabel,
        "partition": federation.partition_report,
        "notes": list(dataset.notes),
    }
    if simulated:
        facts |= {
            "site_names": list(federation.site_names),
            "train_counts": federation.train_counts.tolist(),
            "test_counts": federation.test_counts.tolist(),
            "groups": groups(federation.class_counts),
        }
    return facts, ("notes",) if simulated else ("notes", "site_names")


def finish(
    journal: Journal,
    evaluation: GenericEvaluation,
    arrays: dict[str, npt.NDArray[Any]],
    experiment: Experiment,
    federation: Federation,
) -> None:
    """Write the generic model with every head, head norms, summary, analysis and report; print the result."""
    heads = evaluation.heads()
    final = fixed_state(evaluation.model, METHODS[experiment.method], experiment) | arrays
    vectors = {name: class_vectors(head) for name, head in heads.items()}
    for name, (weight, bias) in vectors.items():  # a frame's projection is among the arrays already
        final[f"{name}.weight"] = weight.cpu().numpy()
        if bias is not None:
            final[f"{name}.bias"] = bias.cpu().numpy()
    if uses_attention(experiment) and (frame := evaluation.model.frame) is not None:
        final[QUERY] = frame.cpu().numpy()
    about = describe_model(experiment, evaluation.dataset, evaluation.thresholds())
    facts = header(experiment.dump(), about) | {"heads": ",".join(heads)}
    save_arrays(journal.folder / GENERIC, final, facts)
    norms = {name: np.linalg.norm(w.cpu().numpy().astype(np.float64), axis=1) for name, (w, _) in vectors.items()}
    journal.event("norms", round=experiment.rounds.rounds, heads={name: n.tolist() for name, n in norms.items()})
    summary = summarise(journal.folder)
    journal.write_json("summary", summary.as_json())
    journal.event("summary", **summary.as_json())
    if federation.dataset.multilabel:
        reported = METHODS[experiment.method].reported_head
        head = heads[reported] if reported else None
        write_analysis(journal, AnalysisInput(experiment, federation, evaluation.model, head))
    report = write_report(journal.folder)
    log.info("\n%s", summary.as_text())
    warn_of_unmeasured(evaluation)
    log.info("for a paper: `fednc report %s` writes its charts as files", shlex.quote(str(journal.folder)))
    log.info("report: %s", report)


def warn_of_unmeasured(evaluation: GenericEvaluation) -> None:
    """Name the classes that no test image can measure: a mean over classes is one over the others."""
    if classes := evaluation.unmeasured():
        why = "a positive and a negative" if evaluation.dataset.multilabel else "an image"
        log.warning("not measured, for the test images do not have %s of it: %s", why, named(classes))
