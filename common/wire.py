"""Everything that crosses between the coordinator and a site, and nothing else.

| message                          | coordinator → site                  | site → coordinator                     |
|----------------------------------|-------------------------------------|----------------------------------------|
| hello: `query.hello`             | experiment                          | site name, image counts, code version  |
| head start: `train.head_start`   | what train has, before round 1      | the site's sums of features            |
| train: `train`                   | experiment, run and its identity,   | shared parts (θ, ψ, …), training       |
|                                  | round, the checkpoints' rounds, the | images, mean losses, test images and   |
|                                  | last one that the site trained in,  | metrics of what arrived, the hash of   |
|                                  | factor of the rate, shared parts    | its frame, the round, that of the      |
|                                  | and those the coordinator changes,  | personal parts that it started from,   |
|                                  | the frame where the site lacks it,  | and the method's extras                |
|                                  | the hash of its extras that are     |                                        |
|                                  | there already                       |                                        |
| personalise: `train.personalise` | the same, of the end, and the       | test images and metrics of each stage, |
|                                  | method's sums                       | by class where a site's rule allows it |
| an error, to any of these        |                                     | its kind; where the site refuses what  |
|                                  |                                     | is asked, why: the rest is in its log  |

Which parts are shared, changed by the coordinator, or extra is each method's row in `common/methods`. What is
fixed (frame, frozen stages) travels once. A site's policy may withhold losses and metrics. Metrics by class tell
which classes a site has: a real site keeps them unless its policy names them. No image, label or
personal part is ever sent: a reply with anything that is not named here is not made. With `wire: half` weights
cross in half precision, both ways (`common/precision.py`). Model weights and, more directly, extras tell something
about a site's data all the same: from the class gradients of CReFF the coordinator can work out the feature of an
image that is a site's only one of its class. Arrays are NumPy's own format without pickled objects.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from common.bounds import check_rate, check_rounds
from common.config import Experiment, build, portable
from common.errors import UserError, last_line, one_line, short_repr
from common.errors import WireError as WireError
from common.head_start import extras_of_start
from common.methods import METHODS
from common.multilabel_table import MULTILABEL
from common.packing import Arrays as Arrays
from common.packing import frame_digest as frame_digest
from common.packing import num_bytes as num_bytes
from common.packing import pack as pack
from common.packing import unpack as unpack
from common.precision import from_wire_precision

HELLO = "query.hello"
HEAD_START = "train.head_start"
TRAIN = "train"
PERSONALISE = "train.personalise"

# a site's metrics of several labels an image; each is followed by '-' and the stage; one that its test images cannot
# measure is left out
MULTILABEL_METRICS = tuple(MULTILABEL)

# of one label an image: how many are right, and the mean share of right ones over the classes that the site tests on
SINGLE_LABEL_METRICS = ("hits", "balanced_accuracy")

TEST_METRICS = (*SINGLE_LABEL_METRICS, *MULTILABEL_METRICS)  # of a site's test images, all of them

STAGES = ("final", "realigned", "finetuned")  # of a personal model, in this order

STARTED_FROM = "started-from"  # the round that made the personal parts which the site started from; 0: it had none

# the numbers of a reply: these always may come, metrics where they were asked for
COUNTS_AND_LOSSES = re.compile(rf"num-examples|num-test|{STARTED_FROM}|loss-[a-z_]{{1,32}}")
STAGE_METRICS = frozenset(f"{metric}-{stage}" for metric in TEST_METRICS for stage in ("arrival", *STAGES))

POLICY_METRICS = ("loss", *TEST_METRICS)  # what a site's policy may withhold

CLASS_METRICS = "class_metrics"

# What a site may send beside the shared parts and plain metrics, and a real one sends only if its policy names it: what
# some methods need, each row of `common/methods` its own, and metrics by class, which no run needs.
EXTRAS = {
    "class_counts": "the site's training images of each class, [C]",
    "feature_sums": "of each class (of several labels: of each label's positives, then negatives) the sums over the "
    "site's images of h̃h̃ᵀ, h̃ a feature and 1, in whole steps, upper halves [K, D(D + 1)/2]",
    "class_sums": "of each class the sum over the site's images of h̃, a feature and 1, in whole steps, [C, d + 1]",
    "class_gradients": "mean gradient of the re-trained head over the site's images of each class, "
    "[C, C, d] (d + 1 with a bias); all zero for a class it does not have",
    CLASS_METRICS: "of each stage of the personal model, [C]: the share of the site's test images of each class that "
    "were right, or with several labels the class's AUC; nan where there is none",
}

_MAX_REASON_LENGTH = 300  # letters of what a site says went wrong
_MODEL, _FRAME, _EXTRAS, CONFIG, _METRICS = "model", "frame", "extras", "config", "metrics"
_SUMS = "sums"
_CLASS_METRICS = "class-metrics"


# --- coordinator → site ---------------------------------------------------------------------------


def request(
    experiment: Experiment,
    *,
    run: str,
    identity: str = "",
    server_round: int = 0,
    checkpointed: Sequence[int] = (0,),
    trained: int = 0,
    rate: float = 1.0,
    evaluate: bool = False,
    sites_dir: Path | None = None,
    model: ArrayRecord | None = None,
    frame: npt.NDArray[np.float32] | None = None,
    fixed: Mapping[str, npt.NDArray[Any]] | None = None,
    frame_hash: str = "",
    held: str = "",
    sums: Mapping[str, npt.NDArray[Any]] | None = None,
) -> RecordDict:
    """Pack what the coordinator sends.

    Args:
        run: the run's name, under which a site keeps its personal state.
        identity: a random word of the run alone: another one of the same name does not start from that state.
        server_round: the round; for personalise one more than the last.
        checkpointed: the rounds of which the coordinator keeps a checkpoint; 0 is the start.
        trained: the last round of the run that the site trained in, 0 for none: it has its personal parts since.
        rate: the round's factor of the learning rate, from 0 to 1.
        evaluate: whether the site evaluates the arriving model before it trains.
        sites_dir: where simulated sites keep their state; a real site has its own and ignores it.
        model: θ and ψ, packed once and shared by all messages of a round; None for hello.
        frame: the fixed frame [C, d] if the site is not known to hold what has `frame_hash`.
        fixed: likewise what of the backbone stands still.
        frame_hash: `frame_digest` of the two.
        held: `arrays_digest` of the extras that the coordinator has of the site and need not come again.
        sums: for personalise, those of the method's row.
    """
    config: dict[str, Any] = {
        "experiment": experiment_json(experiment),
        "run": run,
        "identity": identity,
        "round": server_round,
        "secured": list(checkpointed),
        "trained": trained,
        "rate": rate,
        "evaluate": evaluate,
        "frame-hash": frame_hash,
        "held": held,
        "sites-dir": str(sites_dir or ""),
    }
    content = RecordDict({CONFIG: ConfigRecord(config)})
    if model is not None:
        content[_MODEL] = model
    if once := ({} if frame is None else {"frame": frame}) | dict(fixed or {}):
        content[_FRAME] = pack(once)
    if sums:
        content[_SUMS] = pack(sums)
    return content


class Request:
    """What a site reads from a message of the coordinator.

    Raises:
        RefusalError: a round that the run does not have, others that do not come before it, or a factor beyond 1.
    """

    def __init__(self, message: Message) -> None:
        config = message.content[CONFIG]
        self.experiment = _parse_experiment(str(config["experiment"]))
        self.run, self.identity = str(config["run"]), str(config["identity"])
        rounds = self.experiment.rounds.rounds
        spans = {HEAD_START: (0, 0), TRAIN: (1, rounds), PERSONALISE: (rounds + 1, rounds + 1)}
        span = spans.get(message.metadata.message_type, (0, 0))
        rounds_named = config["round"], config["secured"], config["trained"]
        self.round, self.checkpointed, self.trained = check_rounds(*rounds_named, span)
        self.rate = check_rate(config["rate"])
        self.evaluate = bool(config["evaluate"])
        self.frame_hash, self.held = str(config["frame-hash"]), str(config["held"])
        self.sites_dir = Path(str(config["sites-dir"])) if config["sites-dir"] else None
        self.model = from_wire_precision(unpack(message, _MODEL), self.experiment)
        frame = unpack(message, _FRAME)
        self.frame: npt.NDArray[np.float32] | None = frame.pop("frame", None)
        self.fixed = frame
        self.sums = unpack(message, _SUMS)


@lru_cache(maxsize=4)
def experiment_json(experiment: Experiment) -> str:
    """Return what of the experiment is not its default as one JSON line; to real sites without our own folders."""
    values = experiment.dump(defaults=False)
    values["output-dir"] = str(experiment.run.output_dir)  # its default is the machine's
    if experiment.sites.partition == "deployed":
        values = portable(values) | {"output-dir": "/nowhere", "device": "auto"}
    return json.dumps(values, sort_keys=True)


@lru_cache(maxsize=4)
def _parse_experiment(text: str) -> Experiment:
    values = json.loads(text)
    if not isinstance(values, dict):
        raise UserError(f"the coordinator's experiment is {short_repr(values)}: no keys with values")
    return build(values, source="the coordinator's experiment")


# --- site → coordinator ---------------------------------------------------------------------------


def metrics_reply(
    message: Message,
    metrics: Mapping[str, float | int],
    model: Mapping[str, npt.NDArray[Any]] | None = None,
    frame_hash: str = "",
    extras: Mapping[str, npt.NDArray[Any]] | None = None,
    class_metrics: Mapping[str, npt.NDArray[np.float64]] | None = None,
) -> Message:
    """Answer train or personalise; `model` is left out by a site that had nothing to train on.

    Args:
        message: what is answered.
        metrics: names of `COUNTS_AND_LOSSES` and `STAGE_METRICS`, and their values.
        model: the shared parts.
        frame_hash: of the frame that the site has.
        extras: those of the method's row; before the first round those of `head-start`.
        class_metrics: stage → [C], of personalise alone.

    Raises:
        WireError: something that a site does not send: an unknown number, an array that did not come or is of no
            shared part, an extra of another method, metrics by class of another stage.
    """
    asked, kind = message.content[CONFIG], message.metadata.message_type
    experiment = _parse_experiment(str(asked["experiment"]))
    row = METHODS[experiment.method]
    own = extras_of_start(experiment) if kind == HEAD_START else row.extras
    shared = {name for name in message.content.array_records.get(_MODEL, ()) if name.split(".", 1)[0] in row.shared}
    odd = [name for name in metrics if not (COUNTS_AND_LOSSES.fullmatch(name) or name in STAGE_METRICS)]
    stages = STAGES if kind == PERSONALISE else ()
    odd += sorted((model or {}).keys() - shared) + sorted((extras or {}).keys() - {*own})
    if odd := [*odd, *sorted((class_metrics or {}).keys() - {*stages})]:
        raise WireError(f"{short_repr(odd[0])} is nothing that a site sends here: no reply was made")
    about = ConfigRecord({"frame-hash": frame_hash, "round": cast(int, asked["round"])})
    content = RecordDict({_METRICS: MetricRecord(dict(metrics)), CONFIG: about})
    if model is not None:
        content[_MODEL] = pack(model)
    if extras:
        content[_EXTRAS] = pack(extras)
    if class_metrics:
        content[_CLASS_METRICS] = pack(class_metrics)
    return Message(content, reply_to=message)


class Reply:
    """What the coordinator reads from a site's reply to train or personalise.

    Raises:
        WireError: the site failed, or its reply does not have the agreed form.
    """

    def __init__(self, message: Message) -> None:
        refuse_error(message)
        try:
            if odd := set(message.content) - {_METRICS, CONFIG, _MODEL, _EXTRAS, _CLASS_METRICS}:
                raise ValueError(f"it has {short_repr(min(odd))}, too")
            self.metrics = {key: _number(value) for key, value in message.content[_METRICS].items()}
            about = message.content[CONFIG]
            if about.keys() != {"round", "frame-hash"} or not isinstance(about["frame-hash"], str):
                raise ValueError(f"it says {short_repr(dict(about))}")
            self.round, self.frame_hash = _number(about["round"]), about["frame-hash"]
            self.model, self.extras = unpack(message, _MODEL), unpack(message, _EXTRAS)
            self.class_metrics = unpack(message, _CLASS_METRICS)
            self.num_bytes = num_bytes(message)
        except Exception as error:  # Flower and NumPy raise nearly anything for damaged bytes
            raise WireError(f"not a reply of FedNC's client: {one_line(repr(error), _MAX_REASON_LENGTH)}") from None


def _number(value: Any) -> float:
    if type(value) not in (int, float):  # yes and no are no numbers either
        raise TypeError(f"{short_repr(value)} where a number is needed")
    return float(value)


def refuse_error(message: Message) -> None:
    """Raise `WireError` with the last line of a failed site's reason: the frames above are for the site's own log."""
    if message.has_error():
        raise WireError(
            one_line(last_line(message.error.reason or ""), _MAX_REASON_LENGTH) or f"error code {message.error.code}"
        )


def extras_of(reply: Message) -> list[str]:
    """Return which of `EXTRAS` a site's reply has."""
    records = reply.content.array_records
    return [*records.get(_EXTRAS, ()), *([CLASS_METRICS] if _CLASS_METRICS in records else [])]
