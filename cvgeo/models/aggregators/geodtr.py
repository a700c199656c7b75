"""GeoDTR (Zhang et al., AAAI 2023): layout descriptors, found by a transformer, that weigh the positions of features.

The maximum over channels at each of N positions, m, and which channel it is, i / C = p. For each of D descriptors:
h = m W1 + b1 (N -> N / 2); h + hardtanh(p E + e); a transformer encoder over the D descriptors; q = h W2 + b2 back to N
positions, hardtanh. The global descriptor is, for each q, the sum of features weighted by it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.models.layers import masked, unit
from cvgeo.models.registry import register


@register("aggregator", "geodtr")
class GeometricLayout(nn.Module):
    """Weighted sums of features by `descriptors` layouts: descriptors x C numbers.

    Options (the released models' are the defaults): `descriptors` 8, `layers` 2, `heads` 4, `hidden` 512, `dropout`
    0.3. The inner width is N / 2, rounded down to a multiple of `heads`. Unseen positions are 0 in m and in the
    features. The weights belong to one grid size.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        descriptors: int = 8,
        layers: int = 2,
        heads: int = 4,
        hidden: int = 512,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if min(descriptors, layers, heads, hidden) < 1:
            raise UsageError("descriptors, layers, heads and hidden of geodtr", mend="1 or more each")
        positions = height * width
        inner = max(1, positions // 2 // heads) * heads
        self.first = nn.Parameter(torch.empty(positions, descriptors, inner))
        self.second = nn.Parameter(torch.empty(inner, descriptors, positions))
        self.first_bias = nn.Parameter(torch.full((descriptors, inner), 0.1))
        self.second_bias = nn.Parameter(torch.full((descriptors, positions), 0.1))
        self.index = nn.Parameter(torch.empty(positions, descriptors, inner))
        self.index_bias = nn.Parameter(torch.zeros(descriptors, inner))
        for weight in (self.first, self.second, self.index):
            nn.init.normal_(weight, std=0.005)
        layer = nn.TransformerEncoderLayer(inner, heads, hidden, dropout, "gelu", batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(inner), enable_nested_tensor=False)
        self.descriptor_size = descriptors * channels

    def layouts(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, descriptors, N) in -1..1."""
        strongest, channel = features.flatten(2).max(dim=1)
        index = channel.to(features.dtype) / features.shape[1]
        hidden = torch.einsum("bn,ndm->bdm", strongest, self.first) + self.first_bias
        code = functional.hardtanh(torch.einsum("bn,ndm->bdm", index, self.index) + self.index_bias)
        hidden = self.encoder(self.dropout(hidden + code))
        return functional.hardtanh(torch.einsum("bdm,mdn->bdn", hidden, self.second) + self.second_bias)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, descriptors * C), L2-normalised."""
        features = masked(features, mask)
        return unit(torch.einsum("bcn,bdn->bcd", features.flatten(2), self.layouts(features)).flatten(1))
