"""The seven-layer encoder of Liu and Li (CVPR 2019, Section 3.2), trained from scratch, with or without orientations.

Seven 4x4 convolutions of stride 2 (64, 128, 256, then 512 channels) with leaky ReLUs of slope 0.2 between and batch
norm after all but the first, the encoder of a U-net. What is pooled are the outputs of the last three, before any ReLU,
together 1536 channels: the finest of the three gives the grid, the others are sampled at its nodes (as in the code
at test time, which samples at every pixel).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.models.backbones.base import Backbone
from cvgeo.models.layers import SameConv2d
from cvgeo.models.registry import register

CHANNELS = (64, 128, 256, 512, 512, 512, 512)


@register("backbone", "oricnn")
class OriCNN(Backbone):
    """Liu and Li's encoder: 1536 channels at stride 32, from pictures in -1..1 and `in_channels` - 3 further maps.

    Options: `in_channels`, set by the input part; those of `Backbone`, stages for `freeze` being the seven layers.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    stride = 32
    out_channels = sum(CHANNELS[-3:])

    def __init__(
        self, in_channels: int = 3, freeze: int = 0, batch_norm: str = "train", circular: bool = False
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        inputs = (in_channels, *CHANNELS[:-1])
        self.convolutions = nn.ModuleList(
            SameConv2d(given, made, 4, stride=2) for given, made in zip(inputs, CHANNELS, strict=True)
        )
        self.norms = nn.ModuleList([nn.Identity(), *(nn.BatchNorm2d(made) for made in CHANNELS[1:])])
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            nn.init.normal_(convolution.weight, 0, 0.02)
            nn.init.zeros_(convolution.bias)
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.normal_(norm.weight, 1, 0.02)
        self.finish(
            [list(pair) for pair in zip(self.convolutions, self.norms, strict=True)], freeze, batch_norm, circular
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 1536, ceil(H / 32), ceil(W / 32))."""
        levels = []
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            images = norm(convolution(functional.leaky_relu(images, 0.2) if number else images))
            levels.append(images)
        finest, *coarser = levels[-3:]
        return torch.cat([finest, *(functional.interpolate(one, finest.shape[-2:]) for one in coarser)], dim=1)
