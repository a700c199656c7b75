"""InfoNCE over tiles and headings at once: which tile a panorama belongs to, and how it is turned.

After DSM (Shi et al. 2020) descriptors are rows of azimuth columns and are compared at every roll; but the roll of a
pair is known in training, and here it is part of the label: the candidates of a panorama are all tiles at all rolls,
its own tile wrongly turned among them. A turn between two columns is shared between them, so that the peak between the
columns can be found by interpolation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.losses.info_nce import CLAMP
from cvgeo.losses.pairs import CROP_FLOOR, PairGeometry, PairLoss, negative_mask, rolled_products
from cvgeo.models.registry import register


def turn_targets(turn: Tensor, columns: int) -> Tensor:
    """Turns (B,), shares of the circle, as weights (B, A) of the two rolls between which each lies."""
    position = (turn * columns) % columns
    lower = position.floor()
    share = (position - lower)[:, None]
    lower = lower.long()[:, None] % columns
    weights = torch.zeros(len(turn), columns, dtype=turn.dtype, device=turn.device)
    return weights.scatter_add(1, lower, 1 - share).scatter_add(1, (lower + 1) % columns, share)


@register("loss", "turned_info_nce")
class TurnedInfoNCELoss(PairLoss):
    """Cross-entropy of each picture over all pictures of the other view at all rolls, both ways, averaged.

    Scores are those of search: the inner product over the length of the aerial crop that the ground view sees. Options
    as of `info_nce`; label smoothing spreads over a picture's own pair and its negatives, at every roll.
    """

    rolls = True

    def __init__(self, temperature: float = 0.07, label_smoothing: float = 0.0, learn_temperature: bool = True) -> None:
        super().__init__()
        if temperature <= 0 or not 0 <= label_smoothing < 1:
            fault = f"temperature = {temperature:g}, label_smoothing = {label_smoothing:g}"
            raise UsageError(fault, mend="take one above 0, and one from 0 to below 1")
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)), requires_grad=learn_temperature)
        self.label_smoothing = label_smoothing

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """Descriptors (B, A * C) of A azimuth columns, row i of each being one pair, B >= 2 -> scalar."""
        columns = geometry.azimuth_columns
        products, squared = rolled_products(ground, aerial, columns)
        logits = products / squared.clamp(min=CROP_FLOOR).sqrt() * self.logit_scale.clamp(*CLAMP).exp()
        turn = geometry.ground_turn
        turn = logits.new_zeros(len(logits)) if turn is None else turn.to(logits.dtype)
        targets, negatives = turn_targets(turn, columns), negative_mask(ground, geometry)
        both = (logits, negatives), (logits.transpose(0, 1), negatives.T)
        return sum(self._cross_entropy(*one, targets) for one in both) / 2

    def _cross_entropy(self, logits: Tensor, negatives: Tensor, targets: Tensor) -> Tensor:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        candidates = (negatives | own)[:, :, None].expand_as(logits)
        surprise = -logits.masked_fill(~candidates, float("-inf")).flatten(1).log_softmax(dim=1).view_as(logits)
        spread = surprise.masked_fill(~candidates, 0.0).sum(dim=(1, 2)) / candidates.sum(dim=(1, 2))
        right = (surprise.diagonal(dim1=0, dim2=1).T * targets).sum(dim=1)
        return ((1 - self.label_smoothing) * right + self.label_smoothing * spread).mean()
