"""Position coding: which row and azimuth a feature node stands at. The paper gives no formula."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError


def sincos_position(channels: int, height: int, width: int, wrap: bool) -> Tensor:
    """(channels, height, width) sines and cosines: the first half of the channels codes columns, the rest rows.

    Frequencies grow geometrically from one period over the grid to one in two nodes. Where columns wrap around, theirs
    are whole numbers of periods, so that the code, too, is continuous at the seam; rows and plain columns begin with
    half a period, so that both ends differ.
    """
    of_columns = _waves(channels // 2, width, whole=wrap)
    of_rows = _waves(channels - channels // 2, height, whole=False)
    columns = of_columns[:, None, :].expand(-1, height, -1)
    rows = of_rows[:, :, None].expand(-1, -1, width)
    return torch.cat([columns, rows]).contiguous()


def _waves(channels: int, size: int, whole: bool) -> Tensor:
    count = math.ceil(channels / 2)
    lowest, highest = (1.0 if whole else 0.5), max(1.0, size / 2)
    periods = torch.logspace(math.log10(lowest), math.log10(highest), max(count, 1), dtype=torch.float64)
    # Only whole periods meet at the seam.
    periods = periods.round() if whole else periods
    phase = 2 * math.pi * periods[:, None] * (torch.arange(size, dtype=torch.float64)[None] + 0.5) / size
    return torch.stack([phase.sin(), phase.cos()], dim=1).flatten(0, 1)[:channels].float()


class PositionCoding(nn.Module):
    """Adds a code of its place to every feature node: `sincos` (fixed), `learned` (starts as sincos) or `none`."""

    def __init__(self, kind: str, channels: int, height: int, width: int, wrap: bool) -> None:
        super().__init__()
        if kind not in ("sincos", "learned", "none"):
            raise UsageError(f"position = {kind!r}", mend="sincos, learned or none")
        code = None if kind == "none" else sincos_position(channels, height, width, wrap)
        if kind == "learned":
            self.code = nn.Parameter(code)
        else:
            self.register_buffer("code", code, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return features if self.code is None else features + self.code.to(features.dtype)
