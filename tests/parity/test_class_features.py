"""Prototypes, cosines, co-occurrence and attention maps against scikit-learn, naive loops and formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.manifold import trustworthiness
from sklearn.metrics.pairwise import cosine_similarity

from common.data import Dataset
from common.data.images.source import ArrayImages
from common.models.backbones import build_backbone
from common.models.features import extract_features
from common.models.ladm import LabelAwareBackbone
from server_app.generic.class_features import attention_maps, class_features, class_means, co_occurrence, cosines, embed


def images(count: int, classes: int) -> Dataset:
    rng = np.random.default_rng(3)
    labels = rng.random((count, classes)) < 0.3
    pixels = rng.integers(0, 256, (count, 1, 12, 12), dtype=np.uint8)
    source = ArrayImages(pixels, labels)
    return Dataset("made up", tuple(map(str, range(classes))), source, source, (0.5,), (0.25,))


def attending(classes: int, heads: int = 4) -> LabelAwareBackbone:
    torch.manual_seed(0)
    return LabelAwareBackbone(build_backbone("cnn", 1, 4), heads, torch.randn(classes, 16)).eval()


@given(arrays(np.float64, (5, 3), elements=st.floats(-5, 5)))
def test_cosines_are_scikit_learns(vectors: np.ndarray) -> None:
    found, long = cosines(vectors), np.linalg.norm(vectors, axis=1) > 1e-3
    np.testing.assert_allclose(found[np.ix_(long, long)], cosine_similarity(vectors)[np.ix_(long, long)], atol=1e-9)


def test_a_missing_or_zero_prototype_has_no_cosine() -> None:
    found = cosines(np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 0.0], [1.0, 1.0]]))
    assert np.isnan(found[1]).all() and np.isnan(found[:, 2]).all()
    assert found[0, 3] == pytest.approx(np.sqrt(0.5))


@given(arrays(np.bool_, (7, 4)))
def test_co_occurrence_counts_images_with_both_labels(labels: np.ndarray) -> None:
    naive = [[sum(bool(row[a] and row[b]) for row in labels) for b in range(4)] for a in range(4)]
    assert co_occurrence(labels).tolist() == naive


@pytest.mark.parametrize("uses_attention", [True, False])
def test_prototypes_are_means_over_positives(uses_attention: bool) -> None:
    dataset = images(600, 5)  # more than one batch
    labels = np.asarray(dataset.test.labels, np.bool_)
    backbone = attending(5) if uses_attention else build_backbone("cnn", 1, 4)
    means = class_means(*class_features(backbone, dataset, labels), 5)
    every, _ = extract_features(backbone, dataset.test, np.arange(600), dataset)
    for c in range(5):
        own = every[:, c] if uses_attention else every
        np.testing.assert_allclose(means[c], own[labels[:, c]].mean(dim=0).numpy(), rtol=1e-4, atol=1e-6)


def test_a_class_without_positives_has_no_prototype() -> None:
    means = class_means(np.ones((3, 2)), np.array([0, 2, 2]), 3)
    assert np.isnan(means).all(axis=1).tolist() == [False, True, False]


@torch.no_grad()
def test_attention_maps_are_softmax_of_scaled_products_averaged_over_heads() -> None:
    classes, heads, dim = 3, 4, 16
    backbone, batch = attending(classes, heads), torch.randn(2, 1, 12, 12)
    features, maps = attention_maps(backbone, batch)
    feature_map = backbone.body.feature_map(batch)
    module = backbone.ladm.attention
    assert backbone.frame is not None
    for b in range(2):
        pixels = feature_map[b].flatten(1).T
        queries, keys, _ = module.in_proj_weight.split(dim)
        asked = backbone.frame @ queries.T + module.in_proj_bias[:dim]
        held = pixels @ keys.T + module.in_proj_bias[dim : 2 * dim]
        for c in range(classes):
            mean = torch.zeros(len(pixels))
            for h in range(heads):
                part = slice(h * dim // heads, (h + 1) * dim // heads)
                mean += (held[:, part] @ asked[c, part] / (dim // heads) ** 0.5).softmax(dim=0) / heads
            torch.testing.assert_close(maps[b, c], mean.view(feature_map.shape[2:]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps.sum(dim=(2, 3)), torch.ones(2, classes))
    torch.testing.assert_close(features, backbone(batch), rtol=1e-4, atol=1e-5)


def test_neighbours_stay_neighbours_under_t_sne() -> None:
    rng = np.random.default_rng(0)
    features = np.repeat(np.eye(3, 8) * 4, 20, axis=0) + rng.normal(0, 0.1, (60, 8))
    places = embed(features, 0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert trustworthiness(unit, places, n_neighbors=5) > 0.9
