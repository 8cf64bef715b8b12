"""Robust aggregation: a few malicious or broken sites cannot dominate the result, unlike with a weighted mean.

All replies are held in memory, and all sites weigh the same: a site that lies about its weights may also lie
about its number of images. Trimming and Multi-Krum's selection are Flower's.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import RecordDict
from flwr.serverapp.strategy.fedtrimmedavg import trim_mean
from flwr.serverapp.strategy.multikrum import select_multikrum

from common.config import Experiment
from common.errors import UserError
from common.wire import Arrays, pack
from server_app.aggregation.mean import RunningMean
from server_app.sites.discovery import SiteFacts


def min_models(experiment: Experiment) -> int:
    """Return the minimum number of models for an aggregation to tolerate a wrong one; with fewer it equals the mean.

    Multi-Krum bears f wrong ones of 2f + 3 (Blanchard et al., NeurIPS 2017, https://arxiv.org/abs/1703.02757).
    """
    if experiment.rounds.aggregation == "median":
        return 3
    if experiment.rounds.aggregation == "trimmed-mean" and (share := experiment.rounds.trimmed_share):
        least = math.ceil(1 / share)
        return least + (int(share * least) < 1)  # as Flower rounds
    if experiment.rounds.aggregation == "multi-krum" and experiment.rounds.wrong_sites:
        return 2 * experiment.rounds.wrong_sites + 3
    return 0


def quorum_size(experiment: Experiment, asked: int) -> int:
    """Return how many of the sites that were asked must answer with what can be used."""
    return max(1, math.ceil(experiment.rounds.quorum * asked))


def check_enough_sites(experiment: Experiment, sites: Mapping[str, SiteFacts]) -> None:
    """Raise `UserError` where fewer sites make a model than `min_models`."""
    training = sum(facts.images > 0 for facts in sites.values())
    if training < (needed := min_models(experiment)):
        raise UserError(
            f"aggregation = '{experiment.rounds.aggregation}': bears a wrong site among {needed} or more, and "
            f"{training} have training images; use more sites, another aggregation, fewer wrong-sites or a larger "
            "trimmed-share"
        )


def make_aggregator(reference: Mapping[str, npt.NDArray[Any]], experiment: Experiment) -> RunningMean:
    """Return what adds up a round's replies, as `aggregation` says."""
    if experiment.rounds.aggregation == "mean":
        return RunningMean(reference, experiment.rounds.clip_norm, experiment.rounds.max_step)
    return RobustAggregator(reference, experiment)


class RobustAggregator(RunningMean):
    """Replies kept until the round's end, then combined coordinate by coordinate.

    Args:
        reference: as for `RunningMean`.
        experiment: `aggregation`, `trimmed-share`, `wrong-sites`, `clip-norm`, `max-step`.
    """

    def __init__(self, reference: Mapping[str, npt.NDArray[Any]], experiment: Experiment) -> None:
        super().__init__(reference, experiment.rounds.clip_norm, experiment.rounds.max_step)
        self._experiment = experiment
        self._replies: list[Arrays] = []

    def _accumulate(self, arrays: Mapping[str, npt.NDArray[Any]], weight: int) -> None:
        self._replies.append({name: array.copy() for name, array in arrays.items()})
        self.weight += weight

    def mean(self) -> Arrays:
        """Return the combination in the reference's dtypes; with no reply at all it is the reference itself."""
        if not self._replies:
            return dict(self._reference)
        replies = self._chosen()
        return {name: self._cast(self._combine([r[name] for r in replies]), a) for name, a in self._reference.items()}

    def _combine(self, values: list[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        stacked = np.stack(values).astype(np.float64)
        if self._experiment.rounds.aggregation == "median":
            return np.asarray(np.median(stacked, axis=0), np.float64)
        if self._experiment.rounds.aggregation == "trimmed-mean":
            return np.asarray(trim_mean(stacked, self._experiment.rounds.trimmed_share), np.float64)
        return np.asarray(stacked.mean(axis=0), np.float64)

    def _chosen(self) -> list[Arrays]:
        """Return all replies, or those that Multi-Krum selects: n − f of n, f = `wrong-sites`."""
        wrong = self._experiment.rounds.wrong_sites
        if self._experiment.rounds.aggregation != "multi-krum":
            return self._replies
        contents = [RecordDict({"model": pack(self._moved(reply))}) for reply in self._replies]
        kept = select_multikrum(contents, wrong, len(contents) - wrong)
        return [
            reply for reply, content in zip(self._replies, contents, strict=True) if any(content is k for k in kept)
        ]

    def _moved(self, reply: Arrays) -> Arrays:
        """Return a site's update (model minus broadcast): distances between whole models would lose precision."""
        # in one order, which is not the site's to choose: Flower puts the arrays end to end
        floats = [name for name, template in sorted(self._reference.items()) if template.dtype.kind == "f"]
        return {n: np.subtract(reply[n], self._reference[n], dtype=np.float64).astype(np.float32) for n in floats}
