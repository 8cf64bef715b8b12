"""From one feature map to one feature a class, and the head that scores each against every class of the frame.

FedNCA-ML (Peng et al. 2025, https://arxiv.org/abs/2509.12544): the label-aware disentanglement module (LADM)
and the scaled classifier behind it. Both get the frame as an argument: it is a fixed buffer of the model
around them, and no gradient ever flows into it.
"""

import torch
from torch import Tensor, nn

from common.errors import UserError
from common.models.backbones import Backbone


class LabelAwareAttention(nn.Module):
    """Multi-head attention in which every class vector of the frame asks the feature map for its class.

    The map's pixels are keys and values, the frame's rows are queries. The projections of queries, keys,
    values and outputs are those of `nn.MultiheadAttention` and are learned; there is no residual connection,
    since a feature that starts as its own class vector would need no image.

    Raises:
        UserError: on construction, if the number of heads does not divide the feature dimension.
    """

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise UserError(f"{heads} attention heads do not divide {dim} features: choose a divisor of {dim}")
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, feature_map: Tensor, frame: Tensor, attention: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return one feature a class, and on request where each class looked.

        Args:
            feature_map: F [B, D, H, W], the backbone's last map before pooling.
            frame: [C, D] class vectors.
            attention: also return the maps; this takes the slower path, results agree up to rounding.

        Returns:
            Class features [B, C, D]; with `attention` also the maps [B, heads, C, H·W], each of sum 1, pixels
            row by row.
        """
        pixels = feature_map.flatten(2).transpose(1, 2)  # X [B, HW, D]
        queries = frame.detach().expand(pixels.shape[0], -1, -1)
        answer: tuple[Tensor, Tensor] = self.attention(
            queries, pixels, pixels, need_weights=attention, average_attn_weights=False
        )
        return answer if attention else answer[0]


class LabelAwareBackbone(nn.Module):
    """A backbone whose features are one a class: its last map, asked by the frame.

    Attributes:
        body: the backbone.
        ladm: the attention.
        frame: [C, D], the queries; a buffer that belongs to no state: it travels once, by itself.
        feature_dim: D.
    """

    def __init__(self, body: Backbone, heads: int, frame: Tensor | None) -> None:
        super().__init__()
        self.body = body
        body.trunk = min(body.trunk, body.map_steps())  # it is asked for its map
        self.feature_dim = body.feature_dim
        self.ladm = LabelAwareAttention(body.feature_dim, heads)
        self.frame: Tensor | None
        self.register_buffer("frame", None if frame is None else frame.clone(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return class features [B, C, D] of images [B, channels, H, W]."""
        assert self.frame is not None
        features = self.ladm(self.body.feature_map(images), self.frame)
        assert isinstance(features, Tensor)
        return features


class PerClassHead(nn.Module):
    """Scores Z[b, c, j] = s·⟨w_j, h_bc⟩ + a_j of each class feature h_bc against every class vector w_j.

    Attributes:
        scale: s, a learned scalar, 10 at first.
        bias: a [C], learned, 0 at first.
        vectors: w [C, D] where the class vectors are learned too, for comparison; None: they are the frame.
    """

    first_scale = 10.0

    def __init__(self, num_classes: int, vectors: Tensor | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(self.first_scale))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.vectors = None if vectors is None else nn.Parameter(vectors.clone())

    def forward(self, features: Tensor, frame: Tensor) -> Tensor:
        """Return Z [B, C, C] of class features [B, C, D] and frame [C, D]."""
        scores: Tensor = self.scale * nn.functional.linear(features, self.class_vectors(frame)) + self.bias
        return scores

    def logits(self, features: Tensor, frame: Tensor) -> Tensor:
        """Return the diagonal Z[b, c, c] alone, [B, C]: the prediction, without the C² scores beside it.

        Features [B, D], one for all classes, have as many scores and no more.
        """
        if features.dim() == 2:
            return self.forward(features, frame)
        return self.scale * (features * self.class_vectors(frame)).sum(dim=2) + self.bias

    def class_vectors(self, frame: Tensor) -> Tensor:
        """Return w [C, D]: the frame, or what was learned in its place."""
        return frame.detach() if self.vectors is None else self.vectors
