"""Descriptors by pooling over all positions: average, maximum, generalised mean."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from cvgeo.models.layers import masked_mean, promoted, seen_maximum, unit
from cvgeo.models.registry import register


class _Pooling(nn.Module):
    """What poolings share, behind the pooling: `norm`, a layer norm (ConvNeXt's stands there; its weights are read from
    a backbone's file), and `out_channels`, a linear map to so many numbers (0: none).
    """

    any_grid = True
    pretrained: ClassVar[dict[str, str]] = {"norm.weight": "classifier.0.weight", "norm.bias": "classifier.0.bias"}

    def __init__(self, channels: int, height: int, width: int, norm: bool = False, out_channels: int = 0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6) if norm else nn.Identity()
        self.project = nn.Linear(channels, out_channels) if out_channels else nn.Identity()
        self.descriptor_size = out_channels or channels

    def finished(self, pooled: Tensor) -> Tensor:
        """(B, C) -> (B, D), L2-normalised."""
        return unit(self.project(self.norm(pooled)))


@register("aggregator", "average")
class AveragePooling(_Pooling):
    """Mean over the seen positions; options `norm` and `out_channels`."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D), L2-normalised."""
        return self.finished(masked_mean(features, mask, (2, 3)))


@register("aggregator", "max")
class MaxPooling(_Pooling):
    """Maximum over the seen positions, 0 where nothing is seen; options `norm` and `out_channels`."""

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D), L2-normalised."""
        return self.finished(seen_maximum(features, mask).flatten(1))


@register("aggregator", "gem")
class GeneralizedMeanPooling(_Pooling):
    """Generalised mean (Radenovic et al. 2019): (mean x^p)^(1/p), p learned from `power` on, x at least `eps`.

    Options also `norm` and `out_channels`.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        power: float = 3.0,
        eps: float = 1e-6,
        norm: bool = False,
        out_channels: int = 0,
    ) -> None:
        super().__init__(channels, height, width, norm, out_channels)
        self.power = nn.Parameter(torch.tensor(float(power)))
        self.eps = eps

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, D), L2-normalised."""
        # In half precision the powers would leave the range of numbers.
        mean = masked_mean(promoted(features).clamp(min=self.eps) ** self.power, mask, (2, 3))
        return self.finished(mean.clamp(min=1e-30) ** (1 / self.power))
