"""FedNCM as a whole run: class means of all images, the same bits however they are spread."""

from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.neighbors import NearestCentroid
from trained_runs import TrainedRuns

from common.config import Experiment
from common.data import build_federation
from common.models.features import extract_features
from common.models.model import build_model
from server_app.aggregation.values import BadReplyError
from server_app.engines.engines import run_local
from server_app.methods import load as load_server

Tiny = Callable[..., Experiment]


def test_the_head_is_the_class_means_of_all_images(tiny: Tiny, trained: TrainedRuns) -> None:
    experiment = tiny(method="fedncm", rounds=1)
    head = load_file(trained(method="fedncm", rounds=1) / "generic.safetensors")
    federation = build_federation(experiment)
    dataset, rows = federation.dataset, np.concatenate(federation.train_rows)
    model = build_model(experiment, 1, 10)
    features, labels = extract_features(model.backbone, dataset.train, rows, dataset)
    means = NearestCentroid().fit(features.double().numpy(), labels.numpy()).centroids_
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    assert np.abs(head["aux_head.weight"] - expected).max() < 1e-4  # features are rounded
    assert "aux_head.bias" not in head


def test_the_head_is_the_same_for_any_partition(tiny: Tiny, trained: TrainedRuns) -> None:
    expected = load_file(trained(method="fedncm", rounds=1) / "generic.safetensors")
    found = load_file(run_local(tiny(method="fedncm", rounds=1, partition="iid", sites=5)) / "generic.safetensors")
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ((0, -1, 7), "no number of images"),
        ((0, 0, 1 << 50), "larger than"),
        ((0, -1, 0), "larger than|of .* images, where"),
    ],
)
def test_what_can_be_no_sums_is_refused(tiny: Tiny, change: tuple[int, int, int], why: str) -> None:
    experiment = tiny(method="fedncm")
    method = load_server("fedncm")(experiment, build_federation(experiment))
    broadcast = {"aux_head.weight": np.zeros((10, 3), np.float32)}
    unit = (1 << 21) // 64
    sums = np.full((10, 4), 2 * unit, np.int64)
    method.check({"class_sums": sums}, broadcast, 20)
    row, column, value = change
    sums[row, column] = value
    with pytest.raises(BadReplyError, match=why):
        method.check({"class_sums": sums}, broadcast, 20)
