"""Hard-exemplar reweighting triplet loss (Cai et al., ICCV 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.losses.pairs import PairGeometry, PairLoss, mean_of, negative_mask, similarities, triplet_gaps
from cvgeo.models.registry import register


@register("loss", "hard_exemplar_reweighting")
class HardExemplarReweightingLoss(PairLoss):
    """Soft-margin triplets, each weighted by how hard it is within the batch.

    With g = s (d_pos - d_neg) of squared distances and m = s `margin`, a triplet's difficulty is the negative logarithm
    to base 2 of a logistic regression with the distance rectified by m / 2: w = log2(1 + exp(g + m / 2)). Weights of
    triplets easier than g = -m become `easy` / B, those of triplets harder than g = 0 the weight at g = 0. The loss is
    the mean of w log(1 + exp(g)); the gradient passes through weights that are not cut off, as in the authors' code.

    The authors' vectors are not normalised, and their margin is 0.15 times the mean squared length in the batch: for
    unit vectors that is `margin` 0.15; `scale` s stands for the squared length that they have not (25: the code's own
    advice for normalised vectors is to take them five times). The code has ground anchors only; `anchors` `both` adds
    the aerial ones. Its mean counts the diagonal, whose weights are 0; here it is over true triplets, larger by
    B / (B - 1). Their orientation regression is no part of this loss.
    """

    def __init__(self, margin: float = 0.15, scale: float = 25.0, easy: float = 0.1, anchors: str = "ground") -> None:
        super().__init__()
        if anchors not in ("ground", "both"):
            raise UsageError(f"anchors = {anchors!r}", mend="ground or both")
        if margin <= 0 or scale <= 0:
            raise UsageError(f"margin = {margin:g}, scale = {scale:g}", mend="both must be above 0")
        self.margin, self.scale, self.easy, self.anchors = margin, scale, easy, anchors

    def weights(self, gaps: Tensor, batch: int) -> Tensor:
        """Weights of triplets with scaled gaps g (any shape), of a batch of so many pairs."""
        margin = self.scale * self.margin
        difficulty = functional.softplus(gaps + margin / 2) / math.log(2)
        highest = functional.softplus(gaps.new_tensor(margin / 2)) / math.log(2)
        easy = torch.full_like(gaps, self.easy / batch)
        return torch.where(gaps < -margin, easy, difficulty.minimum(highest))

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """L2-normalised descriptors (B, D) of both views, row i of each being one pair, B >= 2 -> scalar."""
        gaps = self.scale * triplet_gaps(2 - 2 * similarities(ground, aerial))
        negatives = negative_mask(ground, geometry)
        chosen = gaps[0][negatives]
        if self.anchors == "both":
            chosen = torch.cat([chosen, gaps[1][negatives.T]])
        return mean_of(self.weights(chosen, len(ground)) * functional.softplus(chosen))
