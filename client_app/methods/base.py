"""What the site's loops ask of a method."""

from typing import Protocol

from torch import Tensor, nn

from common.config import Experiment
from common.model import Model


class LocalMethod(Protocol):
    """The site's half of a method; the coordinator's half is its row in `common/methods.py`."""

    def losses(self, model: Model, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the named losses of one batch; their sum is differentiated once.

        Args:
            images: normalised images [B, channels, H, W].
            labels: class indices [B].
        """
        ...

    def personal_head(self, model: Model) -> nn.Linear:
        """Return the head d → C of the site's personal model as it stands during training."""
        ...

    def realigned_head(self, model: Model, experiment: Experiment) -> nn.Linear | None:
        """Return the personal head after the last round's realignment, or None if the method has none."""
        ...
