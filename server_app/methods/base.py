"""What the rounds ask of the coordinator's half of a method; by default it averages and no more."""

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

    def shapes(self, sent: Arrays) -> dict[str, tuple[int, ...]]:
        """Return the shape of each extra that a site `returns`, given what it was sent."""
        return {}

    def check(self, extras: Mapping[str, npt.NDArray[Any]], sent: Arrays, images: int) -> None:
        """Check a reply's extras before they are used.

        Args:
            extras: as they came.
            sent: what the site was sent.
            images: training images that the site declared.

        Raises:
            BadReplyError: other names, shapes or types than the method asks for, or a value that is not finite or huge.
        """
        shapes = self.shapes(sent)
        if extras.keys() != shapes.keys():
            odd = sorted(extras.keys() ^ shapes.keys())
            raise BadReplyError(f"extras differ from what {self.row.title} asks for: {', '.join(odd[:3])}")
        for name, array in extras.items():
            if array.shape != shapes[name] or array.dtype != np.float32:
                raise BadReplyError(f"{name}: {array.dtype}{array.shape} where float32{shapes[name]} is needed")
            check_values(name, array)

    def begin(self) -> None:
        """Begin a round, perhaps one again of which too little came: what it brought is not used."""

    def take(self, site: str, extras: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take in one reply's extras, checked before."""

    def state(self) -> Arrays:
        """Return what a resumed run needs of the method beside the parts it sends."""
        return {}

    def restore(self, state: Arrays) -> None:
        """Take over what `state` returned."""

    def finish(self, sent: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """End a round.

        Args:
            sent: what the sites were sent.
            mean: the new mean of the shared parts.
            server_round: the round's number.

        Returns:
            The parts that the method's row names in `sent`, for the next round, and facts for the journal.
        """
        return {}, {}
