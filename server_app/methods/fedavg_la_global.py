"""The global prior of logit adjustment: the class counts of all sites that have answered so far, added up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.wire import Arrays
from server_app.aggregation.values import BadReplyError
from server_app.methods.base import ServerMethod


class GlobalPrior(ServerMethod):
    """Adds up class counts, each site's once however often it answers."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._counts: dict[str, npt.NDArray[np.float32]] = {}
        self._fresh: dict[str, npt.NDArray[np.float32]] = {}  # of the round that goes on

    def begin(self) -> None:
        """Discard the counts of a round that is repeated."""
        self._fresh = {}

    def shapes(self, broadcast: Arrays) -> dict[str, tuple[int, ...]]:
        """Return [C] for the class counts."""
        return {"class_counts": (self.num_classes,)}

    def check(self, extras: Mapping[str, npt.NDArray[Any]], broadcast: Arrays, images: int) -> None:
        """Refuse counts that are not whole or not of the site's images, too."""
        super().check(extras, broadcast, images)
        counts = extras["class_counts"].astype(np.float64)
        if (counts < 0).any() or (counts % 1).any() or counts.sum() != images:
            raise BadReplyError(f"class_counts: not counts of the site's {images} training images")

    def add_extras(self, site: str, extras: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep the site's counts."""
        self._fresh[site] = extras["class_counts"]

    def state(self) -> Arrays:
        """Return each site's counts."""
        return dict(self._counts)

    def restore(self, state: Arrays) -> None:
        """Take over each site's counts."""
        self._counts = dict(state)

    def finish(self, broadcast: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """Return the summed counts as class weights; a class that nobody has yet counts as one image."""
        self._counts = self._counts | self._fresh
        if not self._counts:
            return {"class_weights": broadcast["class_weights"]}, {}
        total = np.sum(list(self._counts.values()), axis=0, dtype=np.float32)
        return {"class_weights": np.maximum(total, np.float32(1))}, {}


METHOD = GlobalPrior
