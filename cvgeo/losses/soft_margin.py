"""Weighted soft-margin triplet loss over all triplets of a batch (paper, Eq. 17; Hu et al. 2018)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.losses.pairs import (
    PairGeometry,
    PairLoss,
    both_ways,
    mean_of,
    negative_mask,
    rolled_similarities,
    similarities,
    triplet_gaps,
)
from cvgeo.models.registry import register


@register("loss", "weighted_soft_margin_triplet")
class WeightedSoftMarginTripletLoss(PairLoss):
    """Mean over all 2 B (B - 1) triplets of log(1 + exp(gamma (d_pos - d_neg))).

    Each ground descriptor has B - 1 negatives among the aerial ones and each aerial one B - 1 among the ground ones;
    `mining` `hard` keeps only the nearest negative of each anchor. Descriptors must be L2-normalised. "Euclidean
    distance" of Eq. 17 is ambiguous: `distance` is `squared` (2 - 2 cos, what SAFA, DSM and their successors compute;
    the default) or `euclidean` (its root, with a finite slope at 0). `similarity` `best_roll` takes each distance at
    the best circular alignment of the two, as DSM does.
    """

    def __init__(
        self, gamma: float = 10.0, distance: str = "squared", mining: str = "all", similarity: str = "inner"
    ) -> None:
        super().__init__()
        if distance not in ("squared", "euclidean"):
            raise UsageError(f"distance = {distance!r}", mend="squared or euclidean")
        if mining not in ("all", "hard"):
            raise UsageError(f"mining = {mining!r}", mend="all or hard")
        if similarity not in ("inner", "best_roll"):
            raise UsageError(f"similarity = {similarity!r}", mend="inner or best_roll")
        self.gamma, self.distance, self.mining = float(gamma), distance, mining
        self.rolls = similarity == "best_roll"

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """Descriptors (B, D) of both views, row i of each being one pair, B >= 2 -> scalar."""
        if self.rolls:
            distances = 2 - 2 * rolled_similarities(ground, aerial, geometry.azimuth_columns)
        else:
            distances = 2 - 2 * similarities(ground, aerial)
        if self.distance == "euclidean":
            # The slope of the root is infinite at 0.
            distances = distances.clamp(min=1e-8).sqrt()
        gaps, negatives = triplet_gaps(distances), both_ways(negative_mask(ground, geometry))
        if self.mining == "hard":
            gaps = gaps.masked_fill(~negatives, float("-inf")).amax(dim=-1)
            negatives = negatives.any(dim=-1)
        return mean_of(functional.softplus(self.gamma * gaps[negatives]))
