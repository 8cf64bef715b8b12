"""The ClientApp: answers the three messages of `common/wire.py` with a site's data and personal state."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from client_app.evaluation import hits
from client_app.methods import LocalMethod, load
from client_app.store import SiteStore
from client_app.training import finetune_head, train_site
from common import wire
from common.config import Experiment
from common.data import Federation, build_federation
from common.errors import UserError
from common.features import extract_features
from common.methods import METHODS
from common.model import Model, build_model, load_state, pick_device, state_of

app = ClientApp()

Handler = Callable[[Message, Context], Message]


@dataclass(frozen=True)
class Site:
    """One site as this process sees it: whose data, where its state is kept."""

    name: str
    federation: Federation
    train_rows: npt.NDArray[np.int64]
    test_rows: npt.NDArray[np.int64]

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """Classes [C] that the site has training images of."""
        labels = self.federation.dataset.train.labels[self.train_rows]
        return np.bincount(labels, minlength=len(self.federation.dataset.classes)) > 0


def _answers(handler: Handler) -> Handler:
    @wraps(handler)
    def answer(message: Message, context: Context) -> Message:
        wire.check_installed(__file__)
        return handler(message, context)

    return answer


@app.query("hello")
@_answers
def hello(message: Message, context: Context) -> Message:
    """Say who this site is and how many images it has."""
    site = find_site(wire.Request(message).experiment, context)
    return wire.hello_reply(message, site=site.name, num_train=len(site.train_rows), num_test=len(site.test_rows))


@app.train()
@_answers
def train(message: Message, context: Context) -> Message:
    """Evaluate the arriving model if asked, train it, keep φ_k here and send θ and ψ back."""
    request = wire.Request(message)
    experiment, site = request.experiment, find_site(request.experiment, context)
    row, method = METHODS[experiment.method], load(experiment.method)
    store = open_store(request, context, site)
    model = assemble(request, site, store)
    metrics: dict[str, float | int] = {"num-examples": len(site.train_rows)}
    if request.evaluate:
        metrics |= arrival_figures(model, method, site, experiment)
    if not len(site.train_rows):
        return wire.metrics_reply(message, metrics, frame_hash=request.frame_hash)
    losses = train_site(model, method, site.federation.dataset, site.train_rows, experiment, site.name, request.round)
    metrics |= {f"loss-{name}": loss for name, loss in losses.items()}
    if row.personal:
        store.save("personal", state_of(model, row.personal), round=request.round)
    return wire.metrics_reply(message, metrics, state_of(model, row.shared), request.frame_hash)


@app.train("personalise")
@_answers
def personalise(message: Message, context: Context) -> Message:
    """Evaluate the final personal model, realign it (LA-FR), fine-tune it, evaluate each stage, keep it here."""
    request = wire.Request(message)
    experiment, site = request.experiment, find_site(request.experiment, context)
    method, dataset = load(experiment.method), site.federation.dataset
    store = open_store(request, context, site)
    model = assemble(request, site, store)
    features, labels = extract_features(model, dataset.test, site.test_rows, dataset)
    mask = site.present if experiment.mask_classes == "train" else None
    head = method.personal_head(model)
    metrics: dict[str, float | int] = {
        "num-examples": len(site.train_rows),
        "num-test": len(labels),
        "hits-final": hits(head, features, labels, mask),
    }
    if (realigned := method.realigned_head(model, experiment)) is not None:
        head = realigned
        metrics["hits-realigned"] = hits(head, features, labels, mask)
    if experiment.finetune_epochs:
        train_features, train_labels = extract_features(model, dataset.train, site.train_rows, dataset)
        finetune_head(head, train_features, train_labels, experiment, site.name)
        metrics["hits-finetuned"] = hits(head, features, labels, mask)
    final = {f"head.{name}": value.cpu().numpy() for name, value in head.state_dict().items()}
    store.save("personal_model", final, round=request.round, method=experiment.method)
    return wire.metrics_reply(message, metrics, frame_hash=request.frame_hash)


def find_site(experiment: Experiment, context: Context) -> Site:
    """Return the site that this node is: simulated node i holds partition i.

    Raises:
        UserError: the node has no partition, or one that the federation does not have.
    """
    federation = build_federation(experiment)
    index = context.node_config.get("partition-id")
    if not isinstance(index, int) or not 0 <= index < len(federation.site_names):
        raise UserError(
            f"partition-id = {index!r}: this federation has sites 0 to {len(federation.site_names) - 1}; "
            f"give Flower as many nodes: --federation-config 'num-supernodes={len(federation.site_names)}'"
        )
    return Site(federation.site_names[index], federation, federation.train_rows[index], federation.test_rows[index])


def open_store(request: wire.Request, context: Context, site: Site) -> SiteStore:
    """Return the site's folder of this run: below its own `state-dir`, or the simulation's sites folder."""
    own = context.node_config.get("state-dir")
    root = Path(str(own)) / request.run if own else request.sites_dir
    if root is None:
        raise UserError("this site has no state-dir: start its SuperNode with --node-config 'state-dir=\"/a/folder\"'")
    # a site's name comes from the data set: as a folder it must not lead anywhere else
    return SiteStore(root / quote(site.name, safe="").replace(".", "%2E"))


def assemble(request: wire.Request, site: Site, store: SiteStore) -> Model:
    """Return the model with what arrived (θ, ψ, frame) and what stayed here (φ_k)."""
    experiment = request.experiment
    torch.set_num_threads(experiment.threads or torch.get_num_threads())
    frame = _frame(request, store)
    dataset = site.federation.dataset
    model = build_model(experiment, dataset.train.channels, len(dataset.classes), frame, site=site.name)
    load_state(model, request.model)
    if METHODS[experiment.method].personal and (kept := store.load("personal")) is not None:
        load_state(model, kept)
    return model.to(pick_device(experiment.device))


def _frame(request: wire.Request, store: SiteStore) -> torch.Tensor | None:
    """Return the fixed frame, from the message or from this site's cache, checked by its hash."""
    if not request.frame_hash:
        return None
    if request.frame is not None:
        store.save("frame", {"frame": request.frame})
    kept = store.load("frame")
    if kept is None or _digest(kept["frame"].tobytes(), kept["frame"].shape) != request.frame_hash:
        raise UserError("the frame is not cached here or differs from the coordinator's; it will be sent again")
    return torch.from_numpy(kept["frame"])


@lru_cache(maxsize=4)
def _digest(content: bytes, shape: tuple[int, ...]) -> str:
    return wire.frame_digest(np.frombuffer(content, dtype=np.float32).reshape(shape))


def arrival_figures(model: Model, method: LocalMethod, site: Site, experiment: Experiment) -> dict[str, float | int]:
    """Evaluate what arrived on the site's test images: the personal head, before any training."""
    dataset = site.federation.dataset
    features, labels = extract_features(model, dataset.test, site.test_rows, dataset)
    mask = site.present if experiment.mask_classes == "train" else None
    return {
        "num-test": len(labels),
        "hits-arrival": hits(method.personal_head(model), features, labels, mask),
    }
