"""Symmetric InfoNCE with label smoothing (Oord et al. 2018; for this field Deuser et al. 2023, Sample4Geo)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.losses.pairs import PairGeometry, PairLoss, negative_mask, similarities
from cvgeo.models.registry import register

CLAMP = (0.0, math.log(100))


@register("loss", "info_nce")
class InfoNCELoss(PairLoss):
    """Cross-entropy of each picture over all pictures of the other view, both ways, averaged.

    The logarithm of 1 / `temperature` is a parameter of the loss unless `learn_temperature` is false: a trainer must
    give `parameters()` to its optimiser. `clamp` keeps it within [0, log 100], as CLIP does; Sample4Geo lets it go.
    Label smoothing spreads over a picture's own pair and its negatives alone.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        label_smoothing: float = 0.1,
        learn_temperature: bool = True,
        clamp: bool = True,
    ) -> None:
        super().__init__()
        if temperature <= 0 or not 0 <= label_smoothing < 1:
            fault = f"temperature = {temperature:g}, label_smoothing = {label_smoothing:g}"
            raise UsageError(fault, mend="take one above 0, and one from 0 to below 1")
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / temperature)), requires_grad=learn_temperature)
        self.label_smoothing, self.clamp = label_smoothing, clamp

    def with_geometry(self, ground: Tensor, aerial: Tensor, geometry: PairGeometry) -> Tensor:
        """L2-normalised descriptors (B, D) of both views, row i of each being one pair, B >= 2 -> scalar."""
        scale = self.logit_scale.clamp(*CLAMP) if self.clamp else self.logit_scale
        logits = similarities(ground, aerial) * scale.exp()
        negatives = negative_mask(ground, geometry)
        return (self._cross_entropy(logits, negatives) + self._cross_entropy(logits.T, negatives.T)) / 2

    def _cross_entropy(self, logits: Tensor, negatives: Tensor) -> Tensor:
        own = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
        candidates = negatives | own
        surprise = -logits.masked_fill(~candidates, float("-inf")).log_softmax(dim=1)
        spread = surprise.masked_fill(~candidates, 0.0).sum(dim=1) / candidates.sum(dim=1)
        return ((1 - self.label_smoothing) * surprise.diagonal() + self.label_smoothing * spread).mean()
