"""A fully connected layer over the whole grid, as classification networks have, and FCANet (Cai et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.aggregators.safa import pooled_by_two, pooled_size
from cvgeo.models.layers import masked, unit
from cvgeo.models.registry import register


@register("aggregator", "dense")
class DenseHead(nn.Module):
    """Features, pooled 2x2 unless `pool` is false, flattened, by one linear map to `out_channels` (4096) numbers.

    A mask sets unseen features to 0. The weights belong to one grid size.
    """

    def __init__(self, channels: int, height: int, width: int, out_channels: int = 4096, pool: bool = True) -> None:
        super().__init__()
        if out_channels < 1:
            raise UsageError(f"out_channels = {out_channels} of dense", mend="1 or more")
        self.pool = pool
        positions = pooled_size(height, pool) * pooled_size(width, pool)
        self.map = nn.Linear(channels * positions, out_channels)
        self.descriptor_size = out_channels

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, out_channels), L2-normalised."""
        if self.pool:
            features, mask = pooled_by_two(features, mask)
        return unit(self.map(masked(features, mask).flatten(1)))
