"""Overhead of the in-process engine, cost of a method's round, cost of evaluation, and the peer's loop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from client_app.methods import load as load_method
from client_app.site.site import Site
from client_app.training.evaluation import SiteEvaluator
from common.config import Experiment
from common.data import build_federation
from common.methods import METHODS
from common.metrics import groups
from common.models.features import EVAL_BATCH
from common.models.model import build_model, feature_dim, shared_state
from server_app.frames.build import build_frame
from server_app.generic.evaluation import GenericEvaluation
from tests.benchmarks.bench_peer import peer
from tests.benchmarks.bench_ratio import Ratio, paired, seconds
from tests.benchmarks.bench_turns import Lap, Work, take_turns
from tests.benchmarks.bench_work import CLASSES, Sizes, bare, experiment_of, federated


def overhead(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a FedAvg round of the in-process engine ÷ the same batches in a bare loop, a row a backbone and size.

    Both train with one thread. Of a large model the engine adds up replies in another one, which the loop need not.
    """
    for backbone in sizes.backbones:
        own = sizes.of(backbone)
        for images in own.overhead:
            experiment = experiment_of(own, folder, device, backbone=backbone, images=images)
            found = take_turns({"run": federated(experiment), "bare": bare(experiment)}, own.laps)
            what = f"in-process round ÷ bare loop, {backbone}, {own.sites} sites of {images} images"
            yield _ratio("overhead", what, device, found["run"], found["bare"], 1.05)


def method_cost(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield rounds of FedLoGe and FedNCA-ML ÷ those of FedAvg on the same images."""
    for backbone in sizes.backbones:
        own = sizes.of(backbone)
        number = {"composites": own.few * own.images, "composites_test": own.test}
        several = number | {"head_bias": True, "partition": "dirichlet", "dirichlet": 100.0, "min_site_size": 2}
        kinds: tuple[tuple[str, float, dict[str, Any], str], ...] = (
            ("fedloge", 1.03, {}, "one label"),
            ("fednca_ml", 1.15, several, "several labels"),
        )
        for method, goal, changes, labels in kinds:
            works = {
                name: federated(
                    experiment_of(own, folder, device, method=name, backbone=backbone, sites=own.few, **changes)
                )
                for name in (method, "fedavg")
            }
            found = take_turns(works, own.laps)
            what = f"{method} round ÷ fedavg round, {backbone}, {labels}"
            yield _ratio("method", what, device, found[method], found["fedavg"], goal)


def evaluation(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield the generic heads and K personal models evaluated ÷ one pass of the generic model over the same images."""
    for backbone in sizes.backbones:
        own = sizes.of(backbone)
        experiment = experiment_of(own, folder, device, method="fedloge", backbone=backbone)
        found = take_turns({"all": _evaluate(experiment), "pass": _one_pass(experiment)}, own.laps)
        what = f"generic and {own.sites} personal models ÷ one generic pass, {backbone}"
        yield _ratio("evaluation", what, device, found["all"], found["pass"], 1.1)


def _evaluate(experiment: Experiment) -> Work:
    """Evaluate as a run does: on the coordinator every head, at every site the personal head on its own images."""

    def work(lap: Lap) -> None:
        torch.set_num_threads(experiment.run.threads)
        federation, method = build_federation(experiment), load_method(experiment.method)
        channels = federation.dataset.train.channels
        frame, _ = build_frame(experiment, CLASSES, feature_dim(build_model(experiment, channels, CLASSES).backbone))
        generic = GenericEvaluation(experiment, federation.dataset, groups(federation.class_counts), frame)
        arrays = shared_state(generic.model, METHODS[experiment.method])
        model = build_model(experiment, channels, CLASSES, frame, site="site-00").to(experiment.run.device)
        rows = zip(federation.site_names, federation.train_rows, federation.test_rows, strict=True)
        sites = [Site(name, experiment, federation, train, test) for name, train, test in rows]
        while True:
            lap()
            generic(arrays)
            for site in sites:
                evaluator = SiteEvaluator(method.personal_backbone(model), site)
                evaluator.metrics(method.personal_head(model), "arrival")

    return work


def _one_pass(experiment: Experiment) -> Work:
    def work(lap: Lap) -> None:
        torch.set_num_threads(experiment.run.threads)
        federation, device = build_federation(experiment), torch.device(experiment.run.device)
        dataset, test = federation.dataset, federation.dataset.test
        model = build_model(experiment, dataset.train.channels, CLASSES).to(device).eval()
        assert model.aux_head is not None
        rows = np.concatenate([np.arange(len(test)), *federation.test_rows])
        pixels, labels = test.batch(rows).to(device), torch.from_numpy(test.labels[rows]).to(device)
        mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (dataset.mean, dataset.std))
        with torch.no_grad():
            while True:
                lap()
                right = 0
                for start in range(0, len(rows), EVAL_BATCH):
                    part = slice(start, start + EVAL_BATCH)
                    logits = model.aux_head(model((pixels[part].float() / 255 - mean) / std))
                    right += int((logits.argmax(1) == labels[part]).sum())

    return work


def against_peer(sizes: Sizes, folder: Path, device: str) -> Iterator[Ratio]:
    """Yield a FedLoGe round with evaluation ÷ the same in a loop in the style of PFLlib; below 1 is a gain."""
    for backbone in sizes.backbones:
        own = sizes.of(backbone)
        changes: dict[str, Any] = {"method": "fedloge", "backbone": backbone, "evaluate_every": 1, "sites": own.few}
        experiment = experiment_of(own, folder, device, **changes)
        found = take_turns({"ours": federated(experiment), "peer": peer(experiment)}, own.laps)
        what = f"fedloge round with evaluation ÷ the same in PFLlib's style, {backbone}"
        yield _ratio("peer", what, device, found["ours"], found["peer"], None)


def _ratio(part: str, what: str, device: str, above: list[float], below: list[float], goal: float | None) -> Ratio:
    return Ratio(part, what, device, paired(above, below), seconds(above, below), goal)
