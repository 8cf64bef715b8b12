"""CReFF: the coordinator re-trains a head on federated features."""

from common.keys import Positive, key
from common.methods.base import Method, MethodOptions


class CReFFOptions(MethodOptions):
    """Keys of CReFF."""

    creff_features: Positive = key(100, le=10**5, about="CReFF: federated features a class (paper: 100)")
    creff_match_steps: Positive = key(100, about="CReFF: steps of gradient matching a round (its code: 100)")
    creff_match_rate: float = key(0.1, gt=0, about="CReFF: learning rate of the features (paper: .1)")
    creff_retrain_epochs: Positive = key(300, about="CReFF: epochs of the re-trained head (its code: 300)")
    creff_retrain_rate: float = key(0.01, gt=0, about="CReFF: its learning rate (paper: .01)")


METHOD = Method(
    name="creff",
    title="CReFF",
    paper="Shang et al., IJCAI 2022, https://arxiv.org/abs/2204.13399",
    family="long-tailed",
    year=2022,
    parts=("aux_head", "retrained_head"),
    shared=("backbone", "aux_head"),
    coordinator_parts=("retrained_head",),
    extras=("class_gradients",),
    generic_head="retrained_head",
    mixes=True,
    options=CReFFOptions,
)
