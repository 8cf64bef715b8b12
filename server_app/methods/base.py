"""The interface of a method's coordinator half; by default it only averages."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.config import Experiment
from common.data import Federation
from common.methods import METHODS
from common.wire import Arrays
from server_app.aggregation.values import BadReplyError, check_values


class ServerMethod:
    """One run's state of the coordinator's half.

    Args:
        experiment: the run.
        federation: for the methods that need images of the coordinator's own; simulated sites' otherwise.
    """

    def __init__(self, experiment: Experiment, federation: Federation) -> None:
        self.experiment, self.federation = experiment, federation
        self.row = METHODS[experiment.method]
        self.num_classes = len(federation.dataset.classes)

    def shapes(self, broadcast: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shape of each of a site's extras, given what it was sent."""
        return {}

    def extras_bytes(self, broadcast: Arrays) -> int:
        """Return the bytes of a site's extras, given what it was sent."""
        return sum(4 * math.prod(shape) for shape in self.shapes(broadcast).values())

    def check(self, extras: Mapping[str, npt.NDArray[Any]], broadcast: Arrays, images: int) -> None:
        """Check a reply's extras before they are used.

        Args:
            extras: as they came.
            broadcast: what the site was sent.
            images: training images that the site declared.

        Raises:
            BadReplyError: other names, shapes or types than the method asks for, or a value that is not finite or huge.
        """
        shapes = self.shapes(broadcast)
        if extras.keys() != shapes.keys():
            odd = sorted(extras.keys() ^ shapes.keys())
            raise BadReplyError(f"extras differ from what {self.row.title} asks for: {', '.join(odd[:3])}")
        for name, array in extras.items():
            if array.shape != shapes[name] or array.dtype != np.float32:
                raise BadReplyError(f"{name}: {array.dtype}{array.shape} where float32{shapes[name]} is needed")
            check_values(name, array)

    def begin(self) -> None:
        """Begin a round; if it is a repetition, discard what the failed attempt collected."""

    def add_extras(self, site: str, extras: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in one reply's extras, checked before."""

    def held(self, site: str) -> str:
        """Return `arrays_digest` of a site's extras that are kept and need not come again, '' for none."""
        return ""

    def personal_sums(self) -> Arrays:
        """Return the `sums` of the method's row, which go out with the last step."""
        return {}

    def state(self) -> Arrays:
        """Return what a resumed run needs of the method beside the parts it sends."""
        return {}

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""

    def finish(self, broadcast: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """End a round.

        Args:
            broadcast: what the sites were sent.
            mean: the new mean of the shared parts.
            server_round: the round's number.

        Returns:
            The parts that the method's row names in `coordinator_parts`, for the next round, and facts for the journal.
        """
        return {}, {}
