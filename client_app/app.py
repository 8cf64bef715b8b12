"""The ClientApp: answers the messages of `common/wire.py` with a site's data and personal state."""

import time
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from torch import nn

from client_app.methods import LocalMethod, OwnImages
from client_app.methods import load as load_method
from client_app.site.device import site_device
from client_app.site.log import log_exchange, log_warning, redact_error
from client_app.site.policy import allowed_class_metrics, allowed_metrics
from client_app.site.site import Site, find_site
from client_app.training.evaluation import SiteEvaluator
from client_app.training.loop import finetune_head, local_context, train_site
from client_app.training.model_cache import model_for
from client_app.training.optimiser import is_state, state_arrays, take_state
from client_app.training.store import SiteStore
from common import wire
from common.errors import UserError
from common.files import arrays_digest
from common.head_start import solver_of
from common.hello import hello_reply
from common.installed import check_installed
from common.methods import METHODS
from common.models.description import Description, describe, header
from common.models.features import extract_features
from common.models.memory import check_memory
from common.models.model import Model, personal_state, shared_state
from common.models.start import PREFIX, start_heads
from common.models.trained import backbone_digest
from common.models.trunk_cache import use_trunk_cache
from common.multilabel_by_class import PerClass
from common.precision import to_wire_precision
from common.rates import finetune_rate

app = ClientApp()

Handler = Callable[[Message, Context], Message]


def _from_this_app(handler: Handler) -> Handler:
    """Refuse to run code of another project; keep the details of a real site's errors in its own log."""

    @wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        check_installed(__file__)
        try:
            return handler(message, context)
        except Exception as error:
            if "site-config" not in context.node_config:
                raise
            raise redact_error(error) from None

    return answer


@app.query("hello")
@_from_this_app
def hello(message: Message, context: Context) -> Message:
    """Say who this site is and how many images it has."""
    site = find_site(wire.Request(message).experiment, context)
    return hello_reply(message, site=site.name, num_train=len(site.train_rows), num_test=len(site.test_rows))


@app.train("head_start")
@_from_this_app
def head_start(message: Message, context: Context) -> Message:
    """Send the sums of features that `head-start` asks for, of the backbone as it starts; nothing trains."""
    request, began = wire.Request(message), time.monotonic()
    site = find_site(request.experiment, context)
    model = assemble(request, site, open_store(request, context, site), 0, None)
    metrics: dict[str, float | int] = {"num-examples": len(site.train_rows)}
    solver = solver_of(site.experiment)
    if solver is None or not len(site.train_rows):
        return wire.metrics_reply(message, metrics, frame_hash=request.frame_hash)
    extras = own_extras(model, load_method(solver.method), replace(site, experiment=solver), request)
    reply = wire.metrics_reply(message, metrics, frame_hash=request.frame_hash, extras=extras)
    log_exchange(site, model, message, reply, "head start", metrics, time.monotonic() - began)
    return reply


@app.train()
@_from_this_app
def train(message: Message, context: Context) -> Message:
    """Evaluate the received model if asked, train it, store the personal parts and send back the shared ones."""
    request, began = wire.Request(message), time.monotonic()
    experiment, site = request.experiment, find_site(request.experiment, context)
    row, method = METHODS[experiment.method], load_method(experiment.method)
    store = open_store(request, context, site)
    started_from, kept = store.load_version(request.round)
    model = assemble(request, site, store, started_from, kept)
    metrics: dict[str, float | int] = {"num-examples": len(site.train_rows)}
    if request.evaluate:
        evaluator = SiteEvaluator(method.personal_backbone(model), site)
        metrics |= {"num-test": evaluator.num_test} | evaluator.metrics(method.personal_head(model), "arrival")
    if not len(site.train_rows):
        return wire.metrics_reply(message, _apply_policy(site, metrics), frame_hash=request.frame_hash)
    extras = own_extras(model, method, site, request)
    rate = experiment.train.learning_rate * request.rate
    state = take_state(kept or {}, model) if experiment.train.optimizer_state == "kept" else None
    losses = train_site(model, method, site, request.round, learning_rate=rate, state=state)
    metrics |= {f"loss-{name}": loss for name, loss in losses.items()}
    if kept := personal_state(model, row) | state_arrays(state or {}):
        store.save_version(kept, request.round, request.checkpointed, experiment.run.checkpoint_every)
        metrics[wire.STARTED_FROM] = started_from
    metrics = _apply_policy(site, metrics)
    shared = to_wire_precision(shared_state(model, row, copy=False), experiment)
    reply = wire.metrics_reply(message, metrics, shared, request.frame_hash, extras)
    log_exchange(site, model, message, reply, f"round {request.round}", metrics, time.monotonic() - began)
    return reply


@app.train("personalise")
@_from_this_app
def personalise(message: Message, context: Context) -> Message:
    """Evaluate the final personal model, realign it (LA-FR), fine-tune it, evaluate each stage, keep it here."""
    request, began = wire.Request(message), time.monotonic()
    experiment, site = request.experiment, find_site(request.experiment, context)
    method = load_method(experiment.method)
    store = open_store(request, context, site)
    started_from, kept = store.load_version(request.round)
    model = assemble(request, site, store, started_from, kept)
    evaluator = SiteEvaluator(method.personal_backbone(model), site)
    head = method.final_head(model, own_images(site, request), local_context(model, method, site), request.sums)
    metrics: dict[str, float | int] = {"num-examples": len(site.train_rows), "num-test": evaluator.num_test}
    by_class: dict[str, PerClass] = {}
    found, by_class["final"] = evaluator.measure(head, "final")
    metrics |= found
    if len(site.train_rows) and personal_state(model, METHODS[experiment.method]):
        metrics[wire.STARTED_FROM] = started_from
    if (realigned := method.realigned_head(model, local_context(model, method, site))) is not None:
        head = realigned
        found, by_class["realigned"] = evaluator.measure(head, "realigned")
        metrics |= found
    if experiment.personalise.finetune_epochs:
        head = finetune(model, head, method, site)
        if method.finetuning(experiment):  # perhaps of the backbone too
            evaluator = SiteEvaluator(method.personal_backbone(model), site)
        found, by_class["finetuned"] = evaluator.measure(head, "finetuned")
        metrics |= found
    backbone = method.personal_backbone(model)
    final = personal_model(backbone, head, request.model)
    facts = header(experiment.dump(), describe_personal(site, evaluator, head, backbone))
    store.save_model(final, round=request.round, method=experiment.method, **facts)
    store.delete_undone(request.checkpointed)
    metrics = _apply_policy(site, metrics)
    if site.config:  # a simulated site has nothing to hide
        by_class = allowed_class_metrics(site.config.policy, by_class, evaluator.class_sizes, metrics)
    reply = wire.metrics_reply(message, metrics, frame_hash=request.frame_hash, class_metrics=by_class)
    title = f"personal model kept in {store.folder}"
    log_exchange(site, model, message, reply, title, metrics, time.monotonic() - began)
    return reply


def _apply_policy(site: Site, metrics: dict[str, float | int]) -> dict[str, float | int]:
    """Return the metrics that the site's policy lets out: all of a simulated site's."""
    return allowed_metrics(site.config.policy, metrics) if site.config else metrics


def own_images(site: Site, request: wire.Request) -> OwnImages:
    """Return the site's training images, and what the coordinator has of them."""
    return OwnImages(site.dataset, site.train_rows, request.held)


def own_extras(model: Model, method: LocalMethod, site: Site, request: wire.Request) -> wire.Arrays:
    """Return what the method's row wants of the site beside weights: nothing where the coordinator has it already."""
    row = METHODS[site.experiment.method]
    if not row.extras:
        return {}
    found = method.extras(model, own_images(site, request), local_context(model, method, site))
    extras = {name: found[name] for name in row.extras}
    return {} if arrays_digest(extras) == request.held else extras


def finetune(model: Model, head: nn.Module, method: LocalMethod, site: Site) -> nn.Module:
    """Fine-tune the personal model in place, its head alone or as its method says, and return its head."""
    if phases := method.finetuning(site.experiment):
        rate = finetune_rate(site.experiment)
        train_site(model, method, site, 0, phases=phases, learning_rate=rate, stream="finetune-")
        return method.personal_head(model)
    dataset, backbone = site.dataset, method.personal_backbone(model)
    features, labels = extract_features(backbone, dataset.train, site.train_rows, dataset)
    finetune_head(head, features, labels, local_context(model, method, site))
    return head


def personal_model(backbone: nn.Module, head: nn.Module, generic: wire.Arrays) -> wire.Arrays:
    """Return the site's final model as what to put on the generic one: `head.*`, and `backbone.*` that differs."""
    arrays = {f"head.{name}": value.detach().cpu().numpy() for name, value in head.state_dict().items()}
    for name, value in backbone.state_dict().items():
        own, shared = value.detach().cpu().numpy(), generic.get(f"backbone.{name}")
        if shared is None or not np.array_equal(own, shared):
            arrays[f"backbone.{name}"] = own
    return arrays


def describe_personal(site: Site, evaluator: SiteEvaluator, head: nn.Module, backbone: nn.Module) -> Description:
    """Return what the file of the site's final model says of it."""
    tuned = evaluator.thresholds(head)
    return describe(
        site.experiment,
        site.dataset,
        {} if tuned is None else {"personal": tuned},
        head="personal",
        present=tuple(site.present.tolist())
        if site.experiment.personalise.mask_classes == "train" and site.present.any()
        else None,
        backbone=backbone_digest(backbone),
    )


def open_store(request: wire.Request, context: Context, site: Site) -> SiteStore:
    """Return the site's folder of this run: below its own `state-dir`, or the simulation's sites folder."""
    own = site.config.state_dir if site.config else context.node_config.get("state-dir")
    root = Path(str(own)) / _folder_name(request.run) if own else request.sites_dir
    if root is None:
        raise UserError("this site has no state-dir: start its SuperNode with --node-config 'state-dir=\"/a/folder\"'")
    # a simulation's folder is the run's own
    return SiteStore(root / _folder_name(site.name), _folder_name(request.identity) if own else "")


def _folder_name(word: str) -> str:
    """Return a word that came from elsewhere as a folder's name: it must not lead anywhere else."""
    return quote(word, safe="").replace(".", "%2E")


def assemble(request: wire.Request, site: Site, store: SiteStore, started_from: int, kept: wire.Arrays | None) -> Model:
    """Return the model from the received parts (θ, ψ, frame) and the stored personal ones, `kept` since a round."""
    experiment, dataset = site.experiment, site.dataset
    kept = None if kept is None else {name: array for name, array in kept.items() if not is_state(name)}
    torch.set_num_threads(experiment.run.threads or torch.get_num_threads())
    frame, fixed = _sent_once(request, store)
    head = {name.removeprefix(PREFIX): fixed.pop(name) for name in sorted(fixed) if name.startswith(PREFIX)}
    request.model = fixed | request.model  # the whole generic model, whenever its arrays came
    shape = (dataset.train.channels, len(dataset.classes))
    device = site_device(experiment, site.config)
    if site.config:  # of a simulation the coordinator has asked
        check_memory(experiment, dataset.train.channels, dataset.train.size, device)
    model = model_for(experiment, device, *shape, frame, request.frame_hash, site.name, request.model, kept)
    start_heads(model, METHODS[experiment.method], head, request.model.keys() | (kept or {}).keys())
    use_trunk_cache(model, experiment, site.config.trunks if site.config else None)
    if site.config and started_from < request.trained:
        found = f"the newest are of round {started_from}" if started_from else "there are none: they begin anew"
        log_warning(
            f"{store.folder}: the personal parts of round {request.trained}, in which this site last trained, are "
            f"missing; {found}. If the folder was moved or deleted, stop, put it back, and tell the coordinator"
        )
    if kept is None:
        if site.config and personal_state(model, METHODS[experiment.method]) and store.has_other_runs():
            log_warning(f"{store.folder}: personal parts of another run named '{request.run}' are not used in this one")
        load_method(experiment.method).start(model)
    return model


def _sent_once(request: wire.Request, store: SiteStore) -> tuple[torch.Tensor | None, wire.Arrays]:
    """Return the fixed frame, if any, and what of the backbone stands still.

    From the message or from this site's cache, checked by its hash.
    """
    if not request.frame_hash:
        return None, {}
    if request.frame is not None or request.fixed:
        store.save("frame", ({} if request.frame is None else {"frame": request.frame}) | request.fixed)
    fixed = store.load("frame") or {}
    frame = fixed.pop("frame", None)
    if wire.frame_digest(frame, fixed) != request.frame_hash:
        raise UserError("the frame is not cached here or differs from the coordinator's; it will be sent again")
    return None if frame is None else torch.from_numpy(frame), fixed
