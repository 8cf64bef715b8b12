"""Keys that several methods share: one meaning, one default, one place."""

from typing import Annotated, Literal

from pydantic import Field

from common.keys import Acts, is_one_of, key
from common.methods.base import MethodOptions


class FrameOptions(MethodOptions):
    """A fixed classifier whose kind the experiment chooses."""

    frame: Literal["sparse_etf", "etf", "xavier", "gaussian", "uniform", "orthogonal", "kaiming"] = key(
        "sparse_etf", about="fixed classifier: SSE-C, Eq. 2, or a sparsified random matrix (Table 9)"
    )
    frame_norm: float = key(
        1.0,
        gt=0,
        about="norm of each class vector (paper's γ; its code: .1)",
        grid=(0.1, 0.3, 1.0, 3.0),
        acts=Acts(is_one_of("frame", "etf", "sparse_etf")),
    )

    @property
    def fixed_frame_norm(self) -> float:
        """`frame-norm`."""
        return self.frame_norm


class TrainedFrameOptions(MethodOptions):
    """A frame as multi-label head, which may learn."""

    frame_trains: bool = key(False, about="FedNCA-ML, FedLoGe-ML: the frame as head learns too (ablation)")

    @property
    def frame_learns(self) -> bool:
        """`frame-trains`."""
        return self.frame_trains


class PriorOptions(MethodOptions):
    """A head trained on prior-compensated logits."""

    prior_temperature: float = key(1.0, ge=0, about="t of prior-compensated logits z + t·logit π̃", labels="many")


class AdjustmentOptions(MethodOptions):
    """A head trained on adjusted logits."""

    logit_adjustment: float = key(1.0, ge=0, about="τ of fedavg_la*; 1 = balanced softmax", grid=(0.5, 1.0, 1.5))


class RangeOptions(MethodOptions):
    """Features that are summed in whole steps."""

    feature_range: Literal[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096] = key(
        64, about="features are summed in steps of its 2⁻²¹; a site with one beyond it refuses"
    )


class SumsOptions(RangeOptions):
    """A head solved from sums of features."""

    ridge_lambda: Literal["auto"] | Annotated[float, Field(gt=0)] = key(
        "auto",
        about="λ of Σ‖Wh − y‖² + λ‖W‖²; auto: by generalised cross-validation, class by class, from the sums alone",
    )
