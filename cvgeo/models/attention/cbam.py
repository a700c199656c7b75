"""The spatial gate of CBAM (Woo et al. 2018), which the paper's Table 4 puts in MC_GRA's place."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.models.layers import masked
from cvgeo.models.registry import register


@register("attention", "cbam")
class SpatialGate(nn.Module):
    """Channel maximum and mean, 7x7 convolution, batch norm, sigmoid, times the features; 0 where unseen."""

    any_grid = True

    def __init__(self, channels: int, height: int, width: int, wrap: bool = True, kernel_size: int = 7) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), attention (B, H, W)."""
        pooled = torch.cat([features.amax(dim=1, keepdim=True), features.mean(dim=1, keepdim=True)], dim=1)
        attention = masked(torch.sigmoid(self.norm(self.convolution(masked(pooled, mask)))), mask)
        return features * attention, attention.squeeze(1)
