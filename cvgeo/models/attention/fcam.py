"""FCAM (Cai et al., ICCV 2019, Section 3.2) and the context reweighting that their network ends with.

FCAM: channel attention as CBAM's (Woo et al. 2018), a bottleneck shared by the mean and the maximum over positions,
then spatial attention over the channels' mean and maximum by 3x3, 5x5 and 7x7 convolutions, joined by 1x1, after the
context reweighting network of Kim et al. (CVPR 2017). In their code both poolings over positions are means, the second
being named a maximum: `maximum` false keeps it so, which makes the sum twice one term.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.models.layers import masked, masked_mean, seen_maximum
from cvgeo.models.registry import register

KERNELS = (3, 5, 7)


class FCAM(nn.Module):
    """Channel, then spatial attention. `reduction` of the channels' bottleneck; `maximum` as the module says."""

    any_grid = True

    def __init__(self, channels: int, reduction: int = 16, maximum: bool = True) -> None:
        super().__init__()
        inner = max(1, channels // reduction)
        self.maximum = maximum
        self.bottleneck = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False), nn.ReLU(), nn.Conv2d(inner, channels, 1, bias=False)
        )
        self.local = nn.ModuleList(nn.Conv2d(2, 1, kernel, padding=kernel // 2) for kernel in KERNELS)
        self.join = nn.Conv2d(len(KERNELS), 1, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), spatial attention (B, H, W)."""
        mean = masked_mean(features, mask, (2, 3), keepdim=True)
        strongest = seen_maximum(features, mask) if self.maximum else mean
        features = features * torch.sigmoid(self.bottleneck(mean) + self.bottleneck(strongest))
        pooled = torch.cat([features.mean(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)], dim=1)
        pooled = masked(pooled, mask)
        contexts = torch.cat([torch.relu(convolution(pooled)) for convolution in self.local], dim=1)
        attention = masked(torch.sigmoid(self.join(contexts)), mask)
        return features * attention, attention.squeeze(1)


@register("attention", "fcam")
def fcam(channels: int, height: int, width: int, wrap: bool = True, **options: int | bool) -> FCAM:
    """FCAM once, behind the backbone; options as the class's."""
    return FCAM(channels, **options)


@register("attention", "reweighting")
class ContextReweighting(nn.Module):
    """Context reweighting (Kim et al., CVPR 2017, as in FCANet): 3x3, 5x5 and 7x7 convolutions to `inner` channels
    each, ReLU, a 1x1 convolution to one map, sigmoid, times the features.
    """

    any_grid = True

    def __init__(self, channels: int, height: int, width: int, wrap: bool = True, inner: int = 128) -> None:
        super().__init__()
        self.local = nn.ModuleList(nn.Conv2d(channels, inner, kernel, padding=kernel // 2) for kernel in KERNELS)
        self.join = nn.Conv2d(len(KERNELS) * inner, 1, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), attention (B, H, W)."""
        seen = masked(features, mask)
        contexts = torch.cat([torch.relu(convolution(seen)) for convolution in self.local], dim=1)
        attention = masked(torch.sigmoid(self.join(contexts)), mask)
        return features * attention, attention.squeeze(1)
