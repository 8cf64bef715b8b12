"""Features of the classes of images with several labels: prototypes, their cosines, t-SNE, and attention maps."""

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from common.data import Dataset
from common.models.features import feature_batches
from common.models.ladm import LabelAwareBackbone
from common.seeds import derive, numpy_generator

Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_PERPLEXITY = 30.0  # scikit-learn's own


def co_occurrence(labels: Flags) -> Integers:
    """Return how many of the images [n, C] have two labels [C, C]; on the diagonal, how many have the one."""
    counts = labels.astype(np.int64)
    return np.asarray(counts.T @ counts)


def draw_positives(labels: Flags, at_most: int, seed: int) -> Flags:
    """Return labels [N, C] with at most so many positives a class left, drawn at random."""
    generator, kept = numpy_generator(seed, "analysis"), np.zeros_like(labels)
    for c in range(labels.shape[1]):
        kept[generator.permutation(np.flatnonzero(labels[:, c]))[:at_most], c] = True
    return kept


def class_features(backbone: nn.Module, dataset: Dataset, positives: Flags) -> tuple[Floats, Integers]:
    """Return features [P, d] of test images and classes [P]: a class's own feature, or the image's where it has one.

    Args:
        backbone: images → features [B, d], or one a class, [B, C, d].
        dataset: the images.
        positives: [N, C] pairs of test image and class, P of them.
    """
    rows = np.flatnonzero(positives.any(axis=1))
    found, kinds, start = [], [], 0
    for features, _ in feature_batches(backbone, dataset.test, rows, dataset):
        image, kind = np.nonzero(positives[rows[start : start + len(features)]])
        start += len(features)
        picked = features[image, kind] if features.dim() == 3 else features[image]
        found.append(picked.cpu().numpy().astype(np.float64))
        kinds.append(kind)
    return np.concatenate(found), np.concatenate(kinds)


def class_means(features: Floats, kinds: Integers, num_classes: int) -> Floats:
    """Return the mean feature of each class [C, d]; nan for a class without any."""
    means = np.full((num_classes, features.shape[1]), np.nan)
    for c in np.unique(kinds):
        means[c] = features[kinds == c].mean(axis=0)
    return means


def cosines(vectors: Floats) -> Floats:
    """Return the cosines [C, C] between vectors [C, d]; nan for one that is nan or zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.where(lengths > 0, lengths, np.nan)
    return np.asarray(unit @ unit.T)


def embed(features: Floats, seed: int) -> Floats:
    """Return t-SNE coordinates [n, 2] of features at unit length [n, d]; empty for fewer than four that differ."""
    from sklearn.manifold import TSNE  # slow to import, and only needed here

    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.maximum(lengths, 1e-12)
    if len(np.unique(unit, axis=0)) < 4:
        return np.empty((0, 2))
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    start = derive(seed, "t-sne") % 2**32
    model = TSNE(2, perplexity=perplexity, init="pca", learning_rate="auto", random_state=start)
    return np.asarray(model.fit_transform(unit), np.float64)


def attention_maps(backbone: LabelAwareBackbone, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return class features [B, C, d], and where each class looks, mean over heads [B, C, h, w], each of sum 1."""
    assert backbone.frame is not None
    map_ = backbone.body.feature_map(images)
    features, weights = backbone.ladm(map_, backbone.frame, attention=True)
    return features, weights.mean(dim=1).unflatten(2, map_.shape[2:])
