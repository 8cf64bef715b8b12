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
        heads: heads the model has beside the backbone, of `aux_head` (ψ, global), `personal_head` (φ_k).
        frame: whether a fixed frame is built and sent.
        shared: prefixes of state that crosses the wire and is averaged, weighted by training images.
        generic_head: the head of the generic model, by which it is judged.
        realigns: whether the coordinator realigns ψ (GA-FR) and the sites φ_k (LA-FR) at the end.
        personal: prefixes of state that stays on the site's disk; with `shared`, all state of the model.
    """

    name: str
    title: str
    paper: str
    heads: tuple[str, ...]
    frame: bool
    shared: tuple[str, ...]
    generic_head: str
    realigns: bool = False
    personal: tuple[str, ...] = ()

    @property
    def reported_head(self) -> str:
        """The generic head that a comparison reports: realigned where the method realigns."""
        return f"{self.generic_head}_realigned" if self.realigns else self.generic_head


_ROWS = (
    Method(
        name="fedavg",
        title="FedAvg",
        paper="McMahan et al., AISTATS 2017, https://arxiv.org/abs/1602.05629",
        heads=("aux_head",),
        frame=False,
        shared=("backbone", "aux_head"),
        generic_head="aux_head",
    ),
    Method(
        name="fedloge",
        title="FedLoGe",
        paper="Xiao et al., ICLR 2024, https://arxiv.org/abs/2401.08977",
        heads=("aux_head", "personal_head"),
        frame=True,
        shared=("backbone", "aux_head"),
        generic_head="aux_head",
        realigns=True,
        personal=("personal_head",),
    ),
)

# What people call the heads that the coordinator evaluates.
HEAD_TITLES = {"aux_head": "ψ", "aux_head_realigned": "ψ realigned", "frame": "frame"}

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}
