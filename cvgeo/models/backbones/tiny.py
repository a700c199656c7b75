"""A small backbone for CPUs, trained from scratch."""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.backbones.base import Backbone
from cvgeo.models.registry import register


def _norm(kind: str, channels: int) -> nn.Module:
    kinds = {"batch": nn.BatchNorm2d, "group": lambda count: nn.GroupNorm(min(8, count), count)}
    if kind not in kinds:
        raise UsageError(f"norm = {kind!r}", mend="batch or group")
    return kinds[kind](channels)


def _unit(in_channels: int, out_channels: int, kernel: int, stride: int, norm: str) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(convolution, _norm(norm, out_channels), nn.ReLU())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.body = nn.Sequential(_unit(channels, channels, 3, 1, norm), second, _norm(norm, channels))
        self.relu = nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.relu(features + self.body(features))


@register("backbone", "tiny")
class Tiny(Backbone):
    """A 4x4 patch stem, then stages that each halve the grid and hold `blocks` residual blocks.

    Options: `stride` 8 or 16; `width`, channels of the stem, doubled by each stage; `blocks`; `norm` batch or group
    (of 8 groups), and those of `Backbone`. The defaults, stride 16 and width 32, have 0.46 M parameters.
    """

    def __init__(
        self,
        stride: int = 16,
        width: int = 32,
        blocks: int = 1,
        norm: str = "batch",
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__()
        if stride not in (8, 16):
            raise UsageError(f"stride = {stride} of the backbone tiny", mend="8 or 16")
        self.stride, depth = stride, {8: 1, 16: 2}[stride]
        self.stem = _unit(3, width, 5, 4, norm)
        self.stages = nn.ModuleList()
        for stage in range(depth):
            channels = width * 2**stage
            residuals = [ResidualBlock(2 * channels, norm) for _ in range(blocks)]
            self.stages.append(nn.Sequential(_unit(channels, 2 * channels, 3, 2, norm), *residuals))
        self.out_channels = width * 2**depth
        self.finish([[self.stem], *([stage] for stage in self.stages)], freeze, batch_norm, circular)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        features = self.stem(images)
        for stage in self.stages:
            features = stage(features)
        return features
