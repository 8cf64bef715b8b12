"""A round as it goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.wire import Reply


@dataclass
class Round:
    """What one round has told so far."""

    number: int
    asked: list[str]
    metrics: frozenset[str] = frozenset()  # names of those that were asked for
    started: float = field(default_factory=time.monotonic)
    heard: set[str] = field(default_factory=set)  # whatever they said
    answered: list[str] = field(default_factory=list)  # with a reply that could be used
    losses: dict[str, float] = field(default_factory=dict)  # summed over the sites that tell them, weighted by images
    loss_images: dict[str, int] = field(default_factory=dict)  # theirs
    images: int = 0  # training images of the sites that answered
    weights: dict[str, int] = field(default_factory=dict)  # by which each site's model counts
    steps: dict[str, float] = field(default_factory=dict)  # how far each site's model moved from what was sent
    diverged: set[str] = field(default_factory=set)  # whose replies were not finite, or out of all proportion
    sum_diverged: bool = False  # what the coordinator made of them all was not finite
    model: str = ""  # content hash of what came out
    arrival: dict[str, dict[str, float]] = field(default_factory=dict)  # site → metrics
    bytes_down: int = 0
    bytes_up: int = 0

    def count(self, site: str, reply: Reply, images: int, weight: int) -> None:
        """Count a usable reply of a site with so many training images, whose model has this weight."""
        self.answered.append(site)
        self.weights[site] = weight
        self.images += images
        self.bytes_up += reply.num_bytes
        for key, value in reply.metrics.items():
            if key.startswith("loss-"):
                self.add_loss(key.removeprefix("loss-"), value, images)

    def usable(self, models_needed: int) -> str:
        """Say what could be used, and of how many replies where an aggregation needs so many models."""
        models = f", {len(self.steps)} of them with a model" if models_needed else ""
        return f"round {self.number}: {len(self.answered)} of {len(self.asked)} replies could be used{models}"

    def where_it_diverged(self, kept: Sequence[int]) -> str:
        """Return what may help if replies, or their mean, were not finite or out of all proportion; else nothing.

        Args:
            kept: rounds of the checkpoints.
        """
        if not (self.diverged or self.sum_diverged):
            return ""
        told = ". Training diverged: in a new run a smaller learning-rate may help"
        if not kept:
            return told
        return (
            f"{told}; the last checkpoint is of round {kept[-1]}; one reply may have spoilt the model: "
            "the steps of each round in metrics.jsonl tell whose. Remove the checkpoints from its "
            f"round on (kept are {', '.join(map(str, kept))}) and that site, then resume; in a new run clip-norm, too, "
            "or another aggregation bears such a site"
        )

    def would_end_alike(self, before: Sequence["Round"], following: Sequence[str] | None) -> bool:
        """Return whether repeating a round without a quorum can only waste time: nothing failed but by diverging.

        Args:
            before: the earlier attempts at it.
            following: whom the next one would ask, where sites are simulated and do the same again; None for real ones,
                which diverge twice before they are believed.
        """
        others = set(self.asked) - set(self.answered) - self.diverged
        if others or not (self.diverged or self.sum_diverged):
            return False
        return following == self.asked or any(
            (old.asked, old.diverged, old.sum_diverged) == (self.asked, self.diverged, self.sum_diverged)
            for old in before
        )

    def add_loss(self, name: str, value: float, images: int) -> None:
        """Add a site's mean loss over its images."""
        self.losses[name] = self.losses.get(name, 0.0) + images * value
        self.loss_images[name] = self.loss_images.get(name, 0) + images

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses over the images of the sites that tell theirs."""
        return {name: total / max(1, self.loss_images[name]) for name, total in self.losses.items()}
