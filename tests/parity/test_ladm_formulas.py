"""The disentanglement module and its head against loops over images, heads, classes and pixels."""

import math

import pytest
import torch

from common.models.ladm import LabelAwareAttention, PerClassHead

B, C, D, H, W, HEADS = 3, 5, 8, 2, 3, 4


def project(weight: torch.Tensor, bias: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    return torch.stack([(row * vector).sum() for row in weight]) + bias


@torch.no_grad()
def test_class_features_are_multi_head_attention_with_the_frame_as_queries() -> None:
    generator = torch.Generator().manual_seed(0)
    module = LabelAwareAttention(D, HEADS).double()
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    feature_map = torch.randn(B, D, H, W, generator=generator, dtype=torch.float64)
    frame = torch.randn(C, D, generator=generator, dtype=torch.float64)
    features, maps = module(feature_map, frame, attention=True)
    inner = module.attention
    weights, biases = inner.in_proj_weight.chunk(3), inner.in_proj_bias.chunk(3)
    size = D // HEADS
    for b in range(B):
        pixels = [feature_map[b, :, y, x] for y in range(H) for x in range(W)]
        keys = [project(weights[1], biases[1], pixel) for pixel in pixels]
        values = [project(weights[2], biases[2], pixel) for pixel in pixels]
        for c in range(C):
            query = project(weights[0], biases[0], frame[c])
            joined = []
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                powers = [math.exp(float((query[part] * key[part]).sum()) / math.sqrt(size)) for key in keys]
                shares = [power / sum(powers) for power in powers]
                assert maps[b, head, c].tolist() == pytest.approx(shares)
                joined.append(sum(s * value[part] for s, value in zip(shares, values, strict=True)))
            expected = project(inner.out_proj.weight, inner.out_proj.bias, torch.cat(joined))
            torch.testing.assert_close(features[b, c], expected)


def test_scores_are_the_heads_formula() -> None:
    generator = torch.Generator().manual_seed(1)
    head = PerClassHead(C)
    head.scale.data.fill_(3.5)
    head.bias.data = torch.randn(C, generator=generator)
    features, frame = torch.randn(B, C, D, generator=generator), torch.randn(C, D, generator=generator)
    scores, logits = head(features, frame), head.logits(features, frame)
    for b in range(B):
        for c in range(C):
            for j in range(C):
                dot = sum(w * h for w, h in zip(frame[j].tolist(), features[b, c].tolist(), strict=True))
                assert scores[b, c, j].item() == pytest.approx(3.5 * dot + head.bias[j].item(), rel=1e-4, abs=1e-4)
            assert logits[b, c].item() == pytest.approx(scores[b, c, c].item(), rel=1e-4, abs=1e-4)
