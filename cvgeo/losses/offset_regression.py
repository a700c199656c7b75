"""VIGOR's offset head: where in its tile a panorama stands (Zhu, Yang and Chen, CVPR 2021, Section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.losses.pairs import OFFSET, PairGeometry, PairLoss, check_given, mean_of
from cvgeo.models.registry import register

TILE_HALVES = 2  # the head's output is in halves of the tile's side, 1 being its edge


@register("loss", "offset_regression")
class OffsetRegressionLoss(PairLoss):
    """Mean squared distance between predicted and true offset, in halves of the tile's side.

    The head, two layers over both descriptors, belongs to the loss and is trained with it; checkpoints keep it
    (`cvgeo.training.checkpoint.load_loss`), and `predict` is for evaluation. It tells no places apart: add it to a loss
    that does (`sum`; VIGOR with weight 0.01). VIGOR's head reads the vectors before they are normalised.
    """

    needs = frozenset({OFFSET})

    def __init__(self, hidden: int = 512) -> None:
        super().__init__()
        if hidden < 1:
            raise UsageError(f"hidden = {hidden}", mend="1 or more")
        self.hidden = hidden
        self.head: nn.Module | None = None

    def prepare(self, descriptor_size: int) -> None:
        """Build the head for descriptors (B, D) of this length."""
        layers = [nn.Linear(2 * descriptor_size, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 2)]
        self.head = nn.Sequential(*layers)

    def predict(self, ground: Tensor, aerial: Tensor) -> Tensor:
        """Offsets (B, 2), panorama minus tile centre, north and east in shares of the tile's side, of pairs (B, D)."""
        if self.head is None:
            raise UsageError("the offset head has no size yet", mend="call prepare(descriptor_size) first")
        # Half precision would round the offsets to a hundredth of a tile.
        with torch.autocast(ground.device.type, enabled=False):
            kind = next(self.head.parameters()).dtype
            return self.head(torch.cat([aerial, ground], dim=1).to(kind)) / TILE_HALVES

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """Descriptors (B, D) of both views and a geometry with `shown_offset` -> scalar; rows of NaN do not count."""
        check_given(geometry, OFFSET, "offset_regression")
        known = torch.isfinite(geometry.shown_offset).all(dim=1)
        wrong = self.predict(ground[known], aerial[known]) - geometry.shown_offset[known]
        return mean_of((TILE_HALVES * wrong).square().sum(dim=1))
