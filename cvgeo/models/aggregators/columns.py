"""Descriptors that keep the azimuth: a row of columns, so that rolling it turns the heading."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.layers import area_weights, masked, masked_mean, unit
from cvgeo.models.registry import register


def _check_bins(bins: int, size: int, name: str) -> int:
    if not 0 <= bins <= size:
        raise UsageError(f"{name} = {bins} of a grid of {size}", mend=f"0 (all) to {size}")
    return bins or size


@register("aggregator", "columns")
class AzimuthColumns(nn.Module):
    """Features averaged over rows, each picture's own mean subtracted, column after column.

    The descriptor, reshaped to (azimuth_columns, C), rolls with the picture's heading. `columns` pools to that many
    (0: all); `normalise` is `whole` (one L2 norm; columns with more content weigh more) or `column` (each column to the
    same norm first). Columns of which nothing is seen are 0. Nothing is learned.
    """

    def __init__(self, channels: int, height: int, width: int, columns: int = 0, normalise: str = "whole") -> None:
        super().__init__()
        if normalise not in ("whole", "column"):
            raise UsageError(f"normalise = {normalise!r}", mend="whole or column")
        self.azimuth_columns = _check_bins(columns, width, "columns")
        self.descriptor_size = self.azimuth_columns * channels
        self.normalise = normalise
        self.register_buffer("bins", area_weights(width, self.azimuth_columns), persistent=False)

    def pooled(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, azimuth_columns, C), before anything is normalised."""
        centred = masked(features - masked_mean(features, mask, (2, 3), keepdim=True), mask)
        # Unseen columns must not pull a bin towards 0.
        seen = torch.ones_like(features[:, :1, 0]) if mask is None else mask.any(dim=1, keepdim=True).to(features.dtype)
        columns = masked_mean(centred, mask, 2)
        bins = self.bins.T.to(features.dtype)
        return ((columns * seen) @ bins / (seen @ bins).clamp(min=1e-6)).transpose(1, 2)

    def normalised(self, pooled: Tensor) -> Tensor:
        """(B, azimuth_columns, C) -> (B, azimuth_columns * C), L2-normalised."""
        if self.normalise == "column":
            pooled = unit(pooled)
        return unit(pooled.flatten(1))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, azimuth_columns * C), L2-normalised."""
        return self.normalised(self.pooled(features, mask))


@register("aggregator", "mapped_columns")
class MappedColumns(AzimuthColumns):
    """`columns` with a linear map of the channels before they are normalised: untrained, it is `columns`."""

    def __init__(self, channels: int, height: int, width: int, columns: int = 0, normalise: str = "whole") -> None:
        super().__init__(channels, height, width, columns, normalise)
        self.map = nn.Linear(channels, channels, bias=False)
        nn.init.eye_(self.map.weight)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, azimuth_columns * C), L2-normalised."""
        return self.normalised(self.map(self.pooled(features, mask)))


@register("aggregator", "flat")
class FlatGrid(nn.Module):
    """A light head that keeps the layout: 1x1 convolution to `out_channels`, pooled to `rows` x `columns` (0: all).

    The descriptor, reshaped to (columns, rows * out_channels), rolls with the picture's heading.
    """

    def __init__(
        self, channels: int, height: int, width: int, out_channels: int = 32, rows: int = 1, columns: int = 0
    ) -> None:
        super().__init__()
        self.rows, self.azimuth_columns = _check_bins(rows, height, "rows"), _check_bins(columns, width, "columns")
        self.descriptor_size = self.rows * self.azimuth_columns * out_channels
        self.reduce = nn.Conv2d(channels, out_channels, 1)
        self.register_buffer("row_bins", area_weights(height, self.rows), persistent=False)
        self.register_buffer("column_bins", area_weights(width, self.azimuth_columns), persistent=False)

    def _pool(self, grid: Tensor) -> Tensor:
        return self.row_bins.to(grid.dtype) @ grid @ self.column_bins.T.to(grid.dtype)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, columns * rows * out_channels), L2-normalised."""
        reduced = self.reduce(features)
        seen = torch.ones_like(reduced[:, :1]) if mask is None else mask.unsqueeze(1).to(reduced.dtype)
        pooled = self._pool(reduced * seen) / self._pool(seen).clamp(min=1e-6)
        return unit(pooled.permute(0, 3, 2, 1).flatten(1))
