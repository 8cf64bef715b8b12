"""FedETF: a projection onto a fixed ETF."""

from common.keys import key
from common.methods.base import Method, MethodOptions


class FedETFOptions(MethodOptions):
    """Keys of FedETF."""

    etf_temperature: float | None = key(
        None, gt=0, about="FedETF: temperature at the start; default: 10 for cnn, 1 for ResNets (its code)"
    )

    def projection_temperature(self, backbone: str) -> float:
        """Return the temperature at the start for a backbone."""
        return self.etf_temperature or (10.0 if backbone == "cnn" else 1.0)


METHOD = Method(
    name="fedetf",
    title="FedETF",
    paper="Li et al., ICCV 2023, https://arxiv.org/abs/2303.10058",
    family="long-tailed",
    year=2023,
    parts=("projection", "personal_head"),
    builders={"personal_head": "common.models.parts:unbiased_head"},  # the fixed ETF is copied into it
    shared=("backbone", "projection"),
    generic_head="frame",
    frame="etf",
    mixes=True,
    finetune_rate=0.003,
    finetunes=True,
    options=FedETFOptions,
)
