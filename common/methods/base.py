"""What both sides agree on for one method: a row, and a frozen model of the method's own keys."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, get_args

from common.keys import KeyModel

if TYPE_CHECKING:  # torch takes seconds to import, and a configuration needs none
    from torch import Tensor, nn

Family = Literal["generic", "personal", "long-tailed", "multilabel"]
FAMILIES: tuple[Family, ...] = get_args(Family)


LINEAR_HEADS = ("retrained_head", "aux_head", "personal_head")


class _HasOptions(Protocol):
    """An experiment, which `common/config` makes of these options."""

    @property
    def method(self) -> str: ...

    @property
    def options(self) -> "MethodOptions": ...


class MethodOptions(KeyModel):
    """A method's own keys: its block in a configuration, such as `fedloge: {frame-norm: 1}`."""

    @classmethod
    def of(cls, experiment: _HasOptions) -> Self:
        """Return the options of an experiment whose method has these keys.

        Example:
            >>> from common.config import build
            >>> from common.methods.fedprox import FedProxOptions
            >>> FedProxOptions.of(build({"method": "fedprox", "fedprox-mu": 0.1})).fedprox_mu
            0.1
        """
        options = experiment.options
        assert isinstance(options, cls), f"{experiment.method} has no {cls.__name__}"
        return options

    # read by the loops on both sides; a method with such keys overrides these

    @property
    def fixed_frame_norm(self) -> float:
        """Norm of the fixed frame's class vectors."""
        return 1.0

    @property
    def optional_parts(self) -> tuple[str, ...]:
        """Parts that the model has beside those of the row."""
        return ()

    def projection_temperature(self, backbone: str) -> float | None:
        """Return the temperature at the start of a layer before the frame; None: it only projects."""
        return None

    @property
    def frame_learns(self) -> bool:
        """Whether the frame as head learns too."""
        return False

    @property
    def generic_realignment(self) -> Literal["none", "unit", "prior"]:
        """What GA-FR does to ψ: nothing, rows of norm 1, or the coordinator's label prior."""
        return "unit"


@dataclass(frozen=True)
class PartContext:
    """What the builder of a model's part may ask; it draws from torch's global generator, which is seeded for it.

    Attributes:
        row: of the method.
        experiment: the `Experiment`.
        num_classes: C.
        dim: d, the length of a feature.
        frame: fixed classifier [C, d], or None.
        site: name of the site; None on the coordinator.
        body: builds the backbone once more.
    """

    row: "Method"
    experiment: Any
    num_classes: int
    dim: int
    frame: "Tensor | None"
    site: str | None
    body: "Callable[[], nn.Module]"


PartBuilder = Callable[[PartContext], "nn.Module | Tensor"]


@dataclass(frozen=True)
class Method:
    """What the two sides must agree on for one method.

    Attributes:
        name: the word for it in a configuration; also its file here and in `client_app/methods/`.
        title: as papers write it.
        paper: citation with a link.
        family: what it is for; tables list families one after the other, and in each the oldest first.
        year: of the paper.
        parts: what the model has beside the backbone θ: of `PARTS` in `common/models/parts.py`, and the method's own.
        builders: part → function of a `PartContext`, or 'module:function': of parts that `PARTS` does not have, or
            that start otherwise here. It returns a module, a parameter, or a tensor that becomes a buffer.
        shared: parts that cross the wire and are averaged, weighted by training images.
        personal: parts that stay on the site's disk.
        coordinator_parts: that the coordinator alone changes, by `server_app/methods/`, and sends with the shared ones.
        extras: what a site sends beside the shared parts: names of `EXTRAS` in `common/wire.py`.
        generic_head: the head of the generic model, by which it is judged, a linear layer (or the frame); None for a
            method without one.
        head_titles: what tables call generic heads that no other method has.
        frame: which fixed frame is built and sent: 'choice' is the experiment's `frame`, 'query' its
            `query-frame`, 'etf' always that one at norm 1; '' for none, unless there is attention to be asked.
        labels: how many labels an image may have: one, many (some, one or none), or any of the two.
        uses_attention: whether label-aware attention gives one feature a class, where `attention` does not say.
        realigns: whether the coordinator realigns ψ (GA-FR) and the sites φ_k (LA-FR) at the end.
        finetunes: whether the paper's personal model is what `finetune-epochs` makes of it.
        own_loss: whether its loss of one label is fixed: `loss` and `label-smoothing` are of its fine-tuning alone.
        mixes: whether it takes `mixup` and `cutmix`: its losses of one label are those of `LocalContext`, or pass
            through its `of_labels`.
        finetune_rate: the learning rate of fine-tuning at most, where none is given; None: that of training.
        local_norm: whether BatchNorm's parameters and statistics stay at the site.
        solves: which heads come of sums over images in place of training: none, the generic one, or that and a
            personal one at each site.
        starts: the word of `head-start` by which other methods' heads start as the solved one of this; '' for none.
        sums: what the coordinator sends with the last step, of which a site solves its personal head.
        options: the method's own keys.
        tunes: values that tuning tries of keys that are not the method's own: key → values.
    """

    name: str
    title: str
    paper: str
    family: Family
    year: int
    parts: tuple[str, ...]
    builders: Mapping[str, PartBuilder | str] = field(default_factory=dict, kw_only=True)
    shared: tuple[str, ...]
    personal: tuple[str, ...] = ()
    coordinator_parts: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    generic_head: str | None = "aux_head"
    head_titles: Mapping[str, str] = field(default_factory=dict)
    frame: Literal["", "choice", "query", "etf"] = ""
    labels: Literal["one", "many", "any"] = "one"
    uses_attention: bool = False
    realigns: bool = False
    finetunes: bool = False
    own_loss: bool = False
    mixes: bool = False
    finetune_rate: float | None = None
    local_norm: bool = False
    solves: Literal["", "generic", "personal"] = ""
    starts: str = ""
    sums: tuple[str, ...] = ()
    options: type[MethodOptions] = MethodOptions
    tunes: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def is_coordinator_part(self, name: str) -> bool:
        """Whether an array of the model, such as `class_weights`, is of a part that is sent and never averaged."""
        return name.split(".", 1)[0] in self.coordinator_parts

    def at_sites(self, part: str) -> bool:
        """Whether only sites have a part: it is their own, and the coordinator's model goes without."""
        return part in self.personal or part.startswith("personal")

    @property
    def heads(self) -> tuple[str, ...]:
        """The linear heads that start at random, or as `head-start` says."""
        return tuple(part for part in LINEAR_HEADS if part in self.parts and part not in self.builders)

    @property
    def frame_scores(self) -> bool:
        """Whether the frame itself is a head, as it is or with a learned scale, and not only what features aim at."""
        return self.generic_head == "frame" or "class_head" in self.parts

    @property
    def personalises(self) -> bool:
        """Whether a site has a model of its own."""
        return (
            self.local_norm or self.solves == "personal" or any(part.startswith("personal") for part in self.personal)
        )

    @property
    def trains(self) -> bool:
        """Whether sites train; else the whole backbone stands still, and they send no model."""
        return not self.solves

    @property
    def personal_stage(self) -> str:
        """The stage of `wire.STAGES` that is the paper's personal model."""
        return "finetuned" if self.finetunes else "realigned" if self.realigns else "final"

    @property
    def reported_head(self) -> str | None:
        """The generic head that a comparison reports: realigned where the method realigns."""
        return f"{self.generic_head}_realigned" if self.realigns else self.generic_head


# What people call the heads that the coordinator evaluates; a method's own are in its row.
COMMON_HEAD_TITLES = {
    "aux_head": "ψ",
    "aux_head_realigned": "ψ realigned",
    "retrained_head": "ψ re-trained",
    "frame": "frame",
}
