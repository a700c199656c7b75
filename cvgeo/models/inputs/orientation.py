"""Orientation maps U and V beside the picture (Liu and Li, CVPR 2019, Section 3.1).

Of a panorama's pixel U is the azimuth and V the altitude; of a tile's pixel U is the azimuth as seen from the tile's
centre and V the distance from it. As in their code both are scaled: azimuth and altitude by 1 / pi, the distance, in
halves of the side, from 0..1 to -1..1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvgeo.models.registry import register

TOP, BOTTOM = math.radians(45), math.radians(-45)  # of the canonical panorama grid


def _centres(size: int) -> Tensor:
    """Middles of `size` equal cells of 0..1."""
    return (torch.arange(size, dtype=torch.float64) + 0.5) / size


def _azimuths(width: int, column0_heading: float) -> Tensor:
    """Headings (W,) of columns in shares of 180 degrees, -1..1, 0 at north."""
    return (column0_heading / 180 + 2 * _centres(width) + 1) % 2 - 1


def panorama_maps(height: int, width: int, column0_heading: float = 180.0) -> Tensor:
    """(2, H, W): azimuth in -1..1, 0 at north, and altitude in shares of 180 degrees."""
    azimuth = _azimuths(width, column0_heading).expand(height, -1)
    altitude = (TOP + (BOTTOM - TOP) * _centres(height)) / math.pi
    return torch.stack([azimuth, altitude[:, None].expand(-1, width)]).float()


def tile_maps(height: int, width: int) -> Tensor:
    """(2, H, W): azimuth clockwise in -1..1, 0 at north, and distance from the centre in halves of the side less 1."""
    north, east = 1 - 2 * _centres(height)[:, None], 2 * _centres(width)[None] - 1
    azimuth = torch.atan2(east.expand(height, -1), north.expand(-1, width)) / math.pi
    return torch.stack([azimuth, 2 * torch.hypot(north, east) - 1]).float()


def polar_maps(height: int, width: int, column0_heading: float = 180.0) -> Tensor:
    """(2, H, W): a tile's maps, polar transformed: the azimuth runs along columns, the distance falls along rows."""
    azimuth = _azimuths(width, column0_heading).expand(height, -1)
    distance = 2 * (1 - _centres(height)) - 1
    return torch.stack([azimuth, distance[:, None].expand(-1, width)]).float()


@register("input", "orientation")
class OrientationMaps(nn.Module):
    """Five channels: the picture, U, V."""

    out_channels = 5

    def __init__(self, height: int, width: int, view: str, polar: bool, column0_heading: float = 180.0) -> None:
        super().__init__()
        if view == "aerial" and not polar:
            maps = tile_maps(height, width)
        else:
            maps = (panorama_maps if view == "ground" else polar_maps)(height, width, column0_heading)
        self.register_buffer("maps", maps, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 5, H, W)."""
        maps = self.maps.to(images.dtype).expand(len(images), -1, -1, -1)
        return torch.cat([images, maps], dim=1)
