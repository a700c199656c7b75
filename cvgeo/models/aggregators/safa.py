"""SAFA (Shi et al., NeurIPS 2019): spatial-aware feature aggregation by several heads of position weights.

The features are first pooled 2x2 (as in the code, SAME padding). Their mean over channels, flattened, passes for each
head two linear maps, to half the positions and back, with no function between them (in the code); the result weighs the
positions, and the weighted sum of features is the head's part of the descriptor. The article writes the maximum over
channels, and VIGOR's code takes it; SAFA's code takes the mean: `over`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.models.layers import masked, unit
from cvgeo.models.registry import register


def pooled_by_two(features: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """2x2 maxima of (B, C, H, W) over the seen nodes, rounding up, 0 where none is seen; and the mask of that grid."""
    if mask is None:
        return functional.max_pool2d(features, 2, ceil_mode=True), None
    coarse = functional.max_pool2d(mask.unsqueeze(1).float(), 2, ceil_mode=True).squeeze(1) > 0
    lowest = features.masked_fill(~mask.unsqueeze(1), -torch.inf)
    pooled = functional.max_pool2d(lowest, 2, ceil_mode=True)
    return torch.where(pooled.isneginf(), 0.0, pooled), coarse


def pooled_size(size: int, pool: bool) -> int:
    """How many nodes of a dimension are left."""
    return (size + 1) // 2 if pool else size


class PositionWeights(nn.Module):
    """Two linear maps over N positions for each of D heads: (B, N) -> (B, D, N)."""

    def __init__(self, positions: int, heads: int) -> None:
        super().__init__()
        inner = max(1, positions // 2)
        self.first = nn.Parameter(torch.empty(heads, positions, inner))
        self.second = nn.Parameter(torch.empty(heads, inner, positions))
        self.first_bias = nn.Parameter(torch.full((heads, inner), 0.1))
        self.second_bias = nn.Parameter(torch.full((heads, positions), 0.1))
        for weight in (self.first, self.second):
            nn.init.trunc_normal_(weight, std=0.005, a=-0.01, b=0.01)

    def forward(self, saliency: Tensor) -> Tensor:
        """(B, N) -> (B, D, N)."""
        inner = torch.einsum("bn,dnm->bdm", saliency, self.first) + self.first_bias
        return torch.einsum("bdm,dmn->bdn", inner, self.second) + self.second_bias


@register("aggregator", "safa")
class SAFA(nn.Module):
    """Weighted sums of features by `heads` heads (8): a descriptor of heads x C numbers.

    Options: `over` mean or max, of the channels; `pool` false leaves the 2x2 pooling out. Unseen positions have no
    saliency and no weight. The weights belong to one grid size.
    """

    def __init__(
        self, channels: int, height: int, width: int, heads: int = 8, over: str = "mean", pool: bool = True
    ) -> None:
        super().__init__()
        if over not in ("mean", "max") or heads < 1:
            raise UsageError(f"over = {over!r}, heads = {heads} of safa", mend="over mean or max, heads 1 or more")
        self.over, self.pool = over, pool
        self.weights = PositionWeights(pooled_size(height, pool) * pooled_size(width, pool), heads)
        self.descriptor_size = heads * channels

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, heads * C), L2-normalised."""
        if self.pool:
            features, mask = pooled_by_two(features, mask)
        features = masked(features, mask)
        saliency = features.mean(dim=1) if self.over == "mean" else features.amax(dim=1)
        weights = self.weights(saliency.flatten(1))
        return unit(torch.einsum("bcn,bdn->bdc", features.flatten(2), weights).flatten(1))
