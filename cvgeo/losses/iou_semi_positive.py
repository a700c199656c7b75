"""VIGOR's semi-positive loss: similarities in the ratio of overlaps (Zhu, Yang and Chen, CVPR 2021, Eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from cvgeo.losses.pairs import SEMI_AERIAL, PairGeometry, PairLoss, check_given, mean_of
from cvgeo.models.registry import register


def tile_iou(offset: Tensor) -> Tensor:
    """Intersection over union (B,) of a tile and an equal one centred on a camera (B, 2) sides away; 0 beyond it."""
    shared = (1 - offset.abs()).clamp(min=0).prod(dim=-1)
    return shared / (2 - shared)


@register("loss", "iou_semi_positive")
class IoUSemiPositiveLoss(PairLoss):
    """Mean over panoramas of (sim_semi / sim_pos - iou_semi / iou_pos)^2.

    A tile that shows a panorama's place at its edge is to be as similar, relative to the positive tile, as it overlaps
    with a tile centred on the camera. It tells no places apart: add it to a loss that does (`sum`; VIGOR with weight
    0.1). The published ratio has a pole at sim_pos = 0: below `floor` the denominator stays there.
    """

    needs = frozenset({SEMI_AERIAL})

    def __init__(self, floor: float = 0.1) -> None:
        super().__init__()
        self.floor = float(floor)

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """L2-normalised descriptors (B, D) and a geometry with `semi_aerial`, `offset`, `semi_offset` -> scalar.

        Rows whose offsets are unknown, or whose camera stands off its positive tile by a whole side, do not count.
        """
        check_given(geometry, SEMI_AERIAL, "iou_semi_positive")
        positive_iou, semi_iou = tile_iou(geometry.offset), tile_iou(geometry.semi_offset)
        known = torch.isfinite(semi_iou) & (positive_iou > 0)
        kind = torch.promote_types(ground.dtype, torch.float32)
        ground, positive, semi = (one[known].to(kind) for one in (ground, aerial, geometry.semi_aerial))
        ratio = (ground * semi).sum(dim=1) / (ground * positive).sum(dim=1).clamp(min=self.floor)
        return mean_of((ratio - (semi_iou[known] / positive_iou[known]).to(kind)).square())
