"""Fed3R on the coordinator (Fanì et al., ICML 2024, https://arxiv.org/abs/2406.01116), Eqs. 5-6.

The sites' sums are added up and the head is solved, at the end of each round, of all sites that have answered so far
(`common/closed_form/ridge.py`). A site that answers again replaces its sums.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from common.closed_form.own_sums import Pooled
from common.closed_form.ridge import GRID, choose_strength, equations, group_weights, solve_all, systems_of
from common.closed_form.sums import MOST_IMAGES, GroupSums, Packed, fault_of, packed_length
from common.data.sources.checks import named
from common.files import arrays_digest
from common.methods.shared_options import RangeOptions, SumsOptions
from common.wire import Arrays
from server_app.aggregation.values import BadReplyError
from server_app.methods.base import ServerMethod
from server_app.run.journal import log


class SolvedHead(ServerMethod):
    """Adds up sums of features, each site's once however often it answers, and solves the head.

    Attributes:
        extra: what a site sends, of `EXTRAS` in `common/wire.py`.
        has_bias: whether the method's own head has a bias.
    """

    extra = "feature_sums"
    has_bias = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._sums: dict[str, Packed] = {}
        self._fresh: dict[str, Packed] = {}  # of the round that goes on
        self._pooled: Pooled | None = None  # of these sums, where they were solved
        self._range = RangeOptions.of(self.experiment).feature_range
        self._systems = systems_of(self.num_classes, self.federation.dataset.multilabel)

    @property
    def balance(self) -> float:
        """τ of the weights of images; 0: each image weighs the same."""
        return 0.0

    def begin(self) -> None:
        """Discard the sums of a round that is repeated."""
        self._fresh = {}

    def held(self, site: str) -> str:
        """Return the hash of a site's sums."""
        return arrays_digest({self.extra: self._sums[site]}) if site in self._sums else ""

    def shapes(self, broadcast: Arrays) -> dict[str, tuple[int, ...]]:
        """Return [K, D(D + 1)/2] for the sums."""
        dim = broadcast["aux_head.weight"].shape[1] + 1
        return {self.extra: (sum(len(system.groups) for system in self._systems), packed_length(dim))}

    def extras_bytes(self, broadcast: Arrays) -> int:
        """Return the bytes of a site's sums."""
        return sum(8 * math.prod(shape) for shape in self.shapes(broadcast).values())

    def check(self, extras: Mapping[str, npt.NDArray[Any]], broadcast: Arrays, images: int) -> None:
        """Refuse what can be no sums over the site's images."""
        shape = self.shapes(broadcast)[self.extra]
        found = extras.get(self.extra)
        if found is None or len(extras) != 1 or found.shape != shape or found.dtype != np.int64:
            what = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in extras.items()) or "nothing"
            raise BadReplyError(f"{what} came where {self.extra} int64{shape} are needed")
        if fault := self.fault(found):
            raise BadReplyError(f"{self.extra}: {fault}")
        counts = self.counts(found)
        for system in self._systems:
            of_system = int(counts[list(system.groups)].sum())
            hidden = len(self._systems) > 1 and of_system == 0  # a label that the site does not know
            if of_system != images and not hidden:
                raise BadReplyError(f"{self.extra}: of {of_system} images, where the site declared {images}")
        if self._most_images() + images > MOST_IMAGES:
            raise BadReplyError(f"{self.extra}: with it there are more images than can be added up, {MOST_IMAGES:,}")

    def add_extras(self, site: str, extras: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep the site's sums; where none came, those that are held still hold."""
        if extras:
            self._fresh[site] = np.asarray(extras[self.extra])

    def state(self) -> Arrays:
        """Return each site's sums."""
        return dict(self._sums)

    def restore(self, state: Arrays) -> None:
        """Take over each site's sums."""
        self._sums, self._pooled = dict(state), None

    def finish(self, broadcast: Arrays, mean: Arrays, server_round: int) -> tuple[Arrays, dict[str, Any]]:
        """Return the head that the sums of all sites determine; what it was solved with goes to the journal."""
        self.take()
        if not self._sums or not self._fresh:
            return {name: broadcast[name] for name in broadcast if self.row.is_coordinator_part(name)}, {}
        return self.solve(bias=self.has_bias)

    def take(self) -> None:
        """Take over the sums of the round that goes on."""
        if self._fresh:
            self._sums, self._pooled = self._sums | self._fresh, None

    def fault(self, sums: Packed) -> str | None:
        """Return why these can be no sums of a site, None if they can."""
        return fault_of(sums, self._range)

    def counts(self, sums: Packed) -> npt.NDArray[np.int64]:
        """Return the images of each group [K] in sums."""
        return GroupSums(sums, self._range).counts

    def solve(self, *, bias: bool) -> tuple[Arrays, dict[str, Any]]:
        """Return the head of all sums that are here, with a bias or without, and what it was solved with."""
        pooled = self.pooled() if bias else self._pool(bias=False)
        head = solve_all(pooled.equations, pooled.strengths, bias=bias).numpy().astype(np.float32)
        if SumsOptions.of(self.experiment).ridge_lambda == "auto" and {*pooled.strengths} & {GRID[0], GRID[-1]}:
            log.warning("ridge-lambda = auto: chosen at the end of what was tried, %g to %g", GRID[0], GRID[-1])
        return as_head(head, bias=bias), self.facts() | {"ridge_lambda": list(pooled.strengths)}

    def _most_images(self) -> int:
        """Return the images that the sums are of: of several labels, of the label that most of them know."""
        if not self._sums:
            return 0
        counts = self.counts(self._added())
        return max(int(counts[list(system.groups)].sum()) for system in self._systems)

    def facts(self) -> dict[str, Any]:
        """Return what the head was solved of, and say which classes it does not know."""
        total, classes = self._added(), self.federation.dataset.classes
        if missing := [name for name, count in zip(classes, self.counts(total), strict=False) if not count]:
            log.warning("no site has an image of: %s", named(missing))
        return {
            "sites": len(self._sums),
            "images": self.counts(total).tolist(),
            "sums_sha256": arrays_digest({self.extra: total}),
        }

    def pooled(self) -> Pooled:
        """Return the weighted equations of all sites, and λ of each."""
        if self._pooled is None:
            self._pooled = self._pool(bias=True)
        return self._pooled

    def _pool(self, *, bias: bool) -> Pooled:
        total = self._total()
        weights = group_weights(total.counts, self._systems, self.balance)
        wanted = SumsOptions.of(self.experiment).ridge_lambda
        strengths = [
            choose_strength(total, system, weights, bias=bias)[0] if wanted == "auto" else float(wanted)
            for system in self._systems
        ]
        of = [equations(total, system, weights) for system in self._systems]
        return Pooled(self._systems, of, weights, strengths)

    def _added(self) -> Packed:
        return sum(self._sums.values(), start=np.zeros_like(next(iter(self._sums.values()))))

    def _total(self) -> GroupSums:
        return GroupSums(self._added(), self._range)


def as_head(head: npt.NDArray[np.float32], *, bias: bool) -> Arrays:
    """Return W [C, D] as the arrays of a linear head."""
    parts = {"aux_head.weight": np.ascontiguousarray(head[:, :-1])}
    return parts | ({"aux_head.bias": np.ascontiguousarray(head[:, -1])} if bias else {})


METHOD = SolvedHead
