"""The table of methods that both sides agree on. Adding one is a row here and a file in `client_app/methods/`.

The loops on both sides read these rows and never name a method.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Method:
    """What the two sides must agree on for one method.

    Attributes:
        name: the word for it in a configuration; also its file in `client_app/methods/`.
        title: as papers write it.
        paper: citation with a link.
        parts: what the model has beside the backbone θ; `Model` in `common/models/model.py` lists them.
        shared: parts that cross the wire and are averaged, weighted by training images.
        personal: parts that stay on the site's disk.
        sent: parts that the coordinator alone changes, by `server_app/methods/`, and sends with the shared ones.
        returns: what a site sends beside the shared parts: names of `EXTRAS` in `common/wire.py`.
        generic_head: the head of the generic model, by which it is judged; None for a method without one.
        frame: which fixed frame is built and sent: 'choice' is the experiment's `frame`, 'query' its
            `query-frame`, 'etf' always that one at norm 1; '' for none, unless there is attention to be asked.
        labels: how many labels an image may have: one, many (some, one or none), or any of the two.
        attends: whether label-aware attention gives one feature a class, where `attention` does not say.
        realigns: whether the coordinator realigns ψ (GA-FR) and the sites φ_k (LA-FR) at the end.
        finetunes: whether the paper's personal model is what `finetune-epochs` makes of it.
        local_norm: whether BatchNorm's parameters and statistics stay at the site.
    """

    name: str
    title: str
    paper: str
    parts: tuple[str, ...]
    shared: tuple[str, ...]
    personal: tuple[str, ...] = ()
    sent: tuple[str, ...] = ()
    returns: tuple[str, ...] = ()
    generic_head: str | None = "aux_head"
    frame: Literal["", "choice", "query", "etf"] = ""
    labels: Literal["one", "many", "any"] = "one"
    attends: bool = False
    realigns: bool = False
    finetunes: bool = False
    local_norm: bool = False

    def sends_only(self, name: str) -> bool:
        """Whether an array of the model, such as `class_weights`, is of a part that is sent and never averaged."""
        return name.split(".", 1)[0] in self.sent

    @property
    def personalises(self) -> bool:
        """Whether a site trains a model of its own."""
        return self.local_norm or any(part.startswith("personal") for part in self.personal)

    @property
    def personal_stage(self) -> str:
        """The stage of `wire.STAGES` that is the paper's personal model."""
        return "finetuned" if self.finetunes else "realigned" if self.realigns else "final"

    @property
    def reported_head(self) -> str | None:
        """The generic head that a comparison reports: realigned where the method realigns."""
        return f"{self.generic_head}_realigned" if self.realigns else self.generic_head


_ROWS = (
    Method(
        name="fedavg",
        title="FedAvg",
        paper="McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
        labels="any",
    ),
    Method(
        name="fedprox",
        title="FedProx",
        paper="Li et al., MLSys 2020, https://arxiv.org/abs/1812.06127",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
        labels="any",
    ),
    Method(
        name="fedavg_la",
        title="FedAvg + logit adjustment",
        paper="Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
    ),
    Method(
        name="fedavg_la_global",
        title="FedAvg + logit adjustment, global prior",
        paper="Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314",
        parts=("aux_head", "class_weights"),
        shared=("backbone", "aux_head"),
        sent=("class_weights",),
        returns=("class_counts",),
    ),
    Method(
        name="fedbn",
        title="FedBN",
        paper="Li et al., ICLR 2021, https://arxiv.org/abs/2102.07623",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
        generic_head=None,
        local_norm=True,
        labels="any",
    ),
    Method(
        name="fedper",
        title="FedPer",
        paper="Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818",
        parts=("personal_head",),
        shared=("backbone",),
        personal=("personal_head",),
        generic_head=None,
        labels="any",
    ),
    Method(
        name="fedrep",
        title="FedRep",
        paper="Collins et al., ICML 2021, https://arxiv.org/abs/2102.07078",
        parts=("personal_head",),
        shared=("backbone",),
        personal=("personal_head",),
        generic_head=None,
        labels="any",
    ),
    Method(
        name="ditto",
        title="Ditto",
        paper="Li et al., ICML 2021, https://arxiv.org/abs/2012.04221",
        parts=("aux_head", "personal_backbone", "personal_head"),
        shared=("backbone", "aux_head"),
        personal=("personal_backbone", "personal_head"),
        labels="any",
    ),
    Method(
        name="fedrod",
        title="FedROD",
        paper="Chen and Chao, ICLR 2022, https://arxiv.org/abs/2107.00778",
        parts=("aux_head", "personal_head"),
        shared=("backbone", "aux_head"),
        personal=("personal_head",),
        labels="any",
    ),
    Method(
        name="fedbabu",
        title="FedBABU",
        paper="Oh et al., ICLR 2022, https://arxiv.org/abs/2106.06042",
        parts=("aux_head",),
        shared=("backbone",),
        labels="any",
        finetunes=True,
    ),
    Method(
        name="fedetf",
        title="FedETF",
        paper="Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058",
        parts=("projection", "personal_head"),
        shared=("backbone", "projection"),
        generic_head="frame",
        frame="etf",
        finetunes=True,
    ),
    Method(
        name="ratio_loss",
        title="Ratio Loss",
        paper="Wang et al., AAAI 2021, https://arxiv.org/abs/2008.06217",
        parts=("aux_head", "class_weights"),
        shared=("backbone", "aux_head"),
        sent=("class_weights",),
    ),
    Method(
        name="creff",
        title="CReFF",
        paper="Shang et al., IJCAI 2022, https://arxiv.org/abs/2204.13399",
        parts=("aux_head", "retrained_head"),
        shared=("backbone", "aux_head"),
        sent=("retrained_head",),
        returns=("class_gradients",),
        generic_head="retrained_head",
    ),
    Method(
        name="fedgrab",
        title="Fed-GraB",
        paper="Xiao et al., NeurIPS 2023, https://arxiv.org/abs/2310.07587",
        parts=("aux_head", "class_state"),
        shared=("backbone", "aux_head"),
        personal=("class_state",),
    ),
    Method(
        name="fedloge",
        title="FedLoGe",
        paper="Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977",
        parts=("aux_head", "personal_head"),
        shared=("backbone", "aux_head", "projection"),  # a projection is an option: `frame-projection`
        personal=("personal_head",),
        frame="choice",
        realigns=True,
    ),
    Method(
        name="fednca_ml",
        title="FedNCA-ML",
        paper="Peng et al., 2025, https://arxiv.org/abs/2509.12544",
        parts=("class_head",),
        shared=("backbone", "class_head"),
        generic_head="frame",
        frame="query",
        labels="many",
        attends=True,
        finetunes=True,
    ),
    Method(
        name="fedloge_ml",
        title="FedLoGe-ML",
        paper="FedLoGe (https://arxiv.org/abs/2401.08977) on the class features of FedNCA-ML; ours",
        parts=("aux_head", "personal_head", "class_head"),
        shared=("backbone", "aux_head", "class_head"),
        personal=("personal_head",),
        frame="choice",
        labels="many",
        attends=True,
        realigns=True,
    ),
)

# What people call the heads that the coordinator evaluates.
HEAD_TITLES = {
    "aux_head": "ψ",
    "aux_head_realigned": "ψ realigned",
    "retrained_head": "ψ re-trained",
    "frame": "frame",
}

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def methods_for(several: bool) -> list[str]:
    """Return the methods that learn from images with several labels each, or with one."""
    return [name for name, row in METHODS.items() if row.labels in ("any", "many" if several else "one")]
