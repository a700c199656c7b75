"""Spatial scale attention, after SSA-Net (Zhang et al., IEEE GRSL 2022).

An approximation: no code was published, and what is at hand of the article describes it only as attention that chooses
features by the scale of objects and weighs them by position. It is read here as a selective kernel (Li et al., CVPR
2019) whose choice is made at every node: 3x3 convolutions of C / `reduction` channels at several dilations see the node
at several scales; a softmax over scales mixes them; a 1x1 convolution and a sigmoid make the node's weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.models.layers import masked
from cvgeo.models.registry import register


@register("attention", "ssa")
class SpatialScaleAttention(nn.Module):
    """Weights of nodes from a mixture of scales. Options: `reduction` (16), `dilations` ([1, 2, 3])."""

    any_grid = True

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        wrap: bool = True,
        reduction: int = 16,
        dilations: tuple[int, ...] = (1, 2, 3),
    ) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.scales = nn.ModuleList(_scale(channels, inner, dilation) for dilation in dilations)
        self.choose = nn.Conv2d(len(dilations) * inner, len(dilations), 1)
        self.weigh = nn.Conv2d(inner, 1, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), attention (B, H, W)."""
        seen = masked(features, mask)
        contexts = [scale(seen) for scale in self.scales]
        shares = torch.softmax(self.choose(torch.cat(contexts, dim=1)), dim=1)
        mixed = sum(shares[:, number : number + 1] * context for number, context in enumerate(contexts))
        attention = masked(torch.sigmoid(self.weigh(mixed)), mask)
        return features * attention, attention.squeeze(1)


def _scale(channels: int, inner: int, dilation: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, inner, 3, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(inner), nn.ReLU())
