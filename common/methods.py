"""The table of methods that both sides agree on. Adding one is a row here and a file in `client_app/methods/`.

The loops on both sides read these rows and never name a method.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What the two sides must agree on for one method.

    Attributes:
        name: the word for it in a configuration; also its file in `client_app/methods/`.
        title: as papers write it.
        paper: citation with a link.
        parts: what the model has beside the backbone θ, of `aux_head` (ψ, global), `personal_head` (φ_k)
            and `personal_backbone`.
        shared: parts that cross the wire and are averaged, weighted by training images.
        personal: parts that stay on the site's disk.
        generic_head: the head of the generic model, by which it is judged; None for a method without one.
        frame: whether a fixed frame is built and sent.
        realigns: whether the coordinator realigns ψ (GA-FR) and the sites φ_k (LA-FR) at the end.
        local_norm: whether BatchNorm's parameters and statistics stay at the site.
    """

    name: str
    title: str
    paper: str
    parts: tuple[str, ...]
    shared: tuple[str, ...]
    personal: tuple[str, ...] = ()
    generic_head: str | None = "aux_head"
    frame: bool = False
    realigns: bool = False
    local_norm: bool = False

    @property
    def personalises(self) -> bool:
        """Whether a site trains anything of its own."""
        return bool(self.personal) or self.local_norm

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
    ),
    Method(
        name="fedprox",
        title="FedProx",
        paper="Li et al., MLSys 2020, https://arxiv.org/abs/1812.06127",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
    ),
    Method(
        name="fedavg_la",
        title="FedAvg + logit adjustment",
        paper="Menon et al., ICLR 2021, https://arxiv.org/abs/2007.07314",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
    ),
    Method(
        name="fedbn",
        title="FedBN",
        paper="Li et al., ICLR 2021, https://arxiv.org/abs/2102.07623",
        parts=("aux_head",),
        shared=("backbone", "aux_head"),
        generic_head=None,
        local_norm=True,
    ),
    Method(
        name="fedper",
        title="FedPer",
        paper="Arivazhagan et al., 2019, https://arxiv.org/abs/1912.00818",
        parts=("personal_head",),
        shared=("backbone",),
        personal=("personal_head",),
        generic_head=None,
    ),
    Method(
        name="fedrep",
        title="FedRep",
        paper="Collins et al., ICML 2021, https://arxiv.org/abs/2102.07078",
        parts=("personal_head",),
        shared=("backbone",),
        personal=("personal_head",),
        generic_head=None,
    ),
    Method(
        name="ditto",
        title="Ditto",
        paper="Li et al., ICML 2021, https://arxiv.org/abs/2012.04221",
        parts=("aux_head", "personal_backbone", "personal_head"),
        shared=("backbone", "aux_head"),
        personal=("personal_backbone", "personal_head"),
    ),
    Method(
        name="fedrod",
        title="FedROD",
        paper="Chen and Chao, ICLR 2022, https://arxiv.org/abs/2107.00778",
        parts=("aux_head", "personal_head"),
        shared=("backbone", "aux_head"),
        personal=("personal_head",),
    ),
    Method(
        name="fedbabu",
        title="FedBABU",
        paper="Oh et al., ICLR 2022, https://arxiv.org/abs/2106.06042",
        parts=("aux_head",),
        shared=("backbone",),
    ),
    Method(
        name="fedloge",
        title="FedLoGe",
        paper="Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977",
        parts=("aux_head", "personal_head"),
        shared=("backbone", "aux_head"),
        personal=("personal_head",),
        frame=True,
        realigns=True,
    ),
)

# What people call the heads that the coordinator evaluates.
HEAD_TITLES = {"aux_head": "ψ", "aux_head_realigned": "ψ realigned", "frame": "frame"}

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
