"""The state of one round."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from common.wire import Reply


@dataclass
class Round:
    """What is known of one round so far."""

    number: int
    asked: list[str]
    metrics: frozenset[str] = frozenset()  # names of those that were asked for
    num_classes: int = 0  # C of the metrics by class [C] that may come, one array a stage; 0: none may
    started: float = field(default_factory=time.monotonic)
    responded: set[str] = field(default_factory=set)  # sites that sent any reply, usable or not
    answered: list[str] = field(default_factory=list)  # sites whose reply was accepted
    losses: dict[str, float] = field(default_factory=dict)  # summed over reporting sites, weighted by images
    loss_images: dict[str, int] = field(default_factory=dict)  # images behind each sum
    images: int = 0  # training images of the sites that answered
    weights: dict[str, int] = field(default_factory=dict)  # aggregation weight of each site
    steps: dict[str, float] = field(default_factory=dict)  # 2-norm of each site's update
    diverged: set[str] = field(default_factory=set)  # sites whose values were not finite, or too large
    mean_diverged: bool = False  # the aggregate was not finite, though each reply was
    model: str = ""  # content hash of the new global model
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

    def usable(self, min_models: int) -> str:
        """Return a sentence on how many replies were accepted, and how many brought a model if a minimum applies."""
        models = f", {len(self.steps)} of them with a model" if min_models else ""
        return f"round {self.number}: {len(self.answered)} of {len(self.asked)} replies could be used{models}"

    def divergence_advice(self, kept: Sequence[int]) -> str:
        """Return advice if replies or their mean were not finite or far too large; else an empty string.

        Args:
            kept: rounds of the checkpoints.
        """
        if not (self.diverged or self.mean_diverged):
            return ""
        advice = ". Training diverged: in a new run a smaller learning-rate may help"
        if not kept:
            return advice
        return (
            f"{advice}; the last checkpoint is of round {kept[-1]}; one reply may have spoilt the model: "
            "the steps of each round in metrics.jsonl tell whose. Remove the checkpoints from its "
            f"round on (kept are {', '.join(map(str, kept))}) and that site, then resume; in a new run clip-norm, too, "
            "or another aggregation bears such a site"
        )

    def would_repeat(self, before: Sequence["Round"], following: Sequence[str] | None) -> bool:
        """Return whether repeating a round without a quorum is pointless: its only failures were divergences.

        Args:
            before: the earlier attempts at it.
            following: sites of the next attempt, if simulated (they behave the same again); None for real sites,
                which must diverge twice before the run is given up.
        """
        others = set(self.asked) - set(self.answered) - self.diverged
        if others or not (self.diverged or self.mean_diverged):
            return False
        return following == self.asked or any(
            (old.asked, old.diverged, old.mean_diverged) == (self.asked, self.diverged, self.mean_diverged)
            for old in before
        )

    def add_loss(self, name: str, value: float, images: int) -> None:
        """Add a site's mean loss over its images."""
        self.losses[name] = self.losses.get(name, 0.0) + images * value
        self.loss_images[name] = self.loss_images.get(name, 0) + images

    def mean_losses(self) -> dict[str, float]:
        """Return the mean losses over the images of the sites that report theirs."""
        return {name: total / max(1, self.loss_images[name]) for name, total in self.losses.items()}
