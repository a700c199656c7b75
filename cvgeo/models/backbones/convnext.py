"""ConvNeXt (Liu et al., CVPR 2022) from torchvision; ConvNeXt-B is Sample4Geo's backbone.

Weights are read under torchvision's names and under timm's, with or without the prefix `model.` that Sample4Geo's
released files have (Deuser et al. 2023); their `logit_scale` belongs to the loss and is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cvgeo.models.backbones.base import Backbone, check_stages, torchvision_weights
from cvgeo.models.registry import register

SIZES = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
_BLOCK = {"conv_dw": "block.0", "norm": "block.2", "mlp.fc1": "block.3", "mlp.fc2": "block.5"}


class ConvNeXt(Backbone):
    """ConvNeXt without its head: 768 (tiny, small), 1024 (base) or 1536 (large) channels at stride 32.

    Parameter names are torchvision's. Options: `stages` 2 (stride 8), 3 (16) or 4 (32, the default); `drop_path`, the
    share of residual branches dropped in the last block while training, rising from 0 in the first; and those of
    `Backbone`. It has no batch norm. Stages for `freeze` are its four, each with the reduction before it. The final
    layer norm stands behind the pooling, and so belongs to the aggregator: `average` with `norm`.
    """

    def __init__(
        self,
        size: str,
        stages: int = 4,
        drop_path: float = 0.0,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__()
        check_stages(size, stages, 2, 4)
        from torchvision import models

        whole = getattr(models, size)(weights=None, stochastic_depth_prob=drop_path).features
        self.size, self.stride = size, 2 ** (stages + 1)
        self.features = whole[: 2 * stages]
        self.discarded = ("classifier.", "logit_scale", *(f"features.{number}." for number in range(2 * stages, 8)))
        self.out_channels = self.features[-1][0].block[0].out_channels
        pairs = [[self.features[number], self.features[number + 1]] for number in range(0, 2 * stages, 2)]
        self.finish(pairs, freeze, batch_norm, circular)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, floor(H / stride), floor(W / stride))."""
        return self.features(images)

    def translate(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """timm's names as torchvision's, which are left as they are."""
        plain = {name.removeprefix("model."): value for name, value in state.items()}
        return dict(_from_timm(name, value) for name, value in plain.items())

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """torchvision's IMAGENET1K_V1."""
        return torchvision_weights(self.size)


def _from_timm(name: str, value: Tensor) -> tuple[str, Tensor]:
    block = re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(gamma|(.+)\.(weight|bias))", name)
    if block and block[3] == "gamma":
        return f"features.{2 * int(block[1]) + 1}.{block[2]}.layer_scale", value.reshape(-1, 1, 1)
    if block and block[4] in _BLOCK:
        return f"features.{2 * int(block[1]) + 1}.{block[2]}.{_BLOCK[block[4]]}.{block[5]}", value
    reduction = re.fullmatch(r"stages\.(\d)\.downsample\.(.+)", name)
    if reduction:
        return f"features.{2 * int(reduction[1])}.{reduction[2]}", value
    stem = re.fullmatch(r"stem\.(.+)", name)
    if stem:
        return f"features.0.{stem[1]}", value
    head = re.fullmatch(r"head\.(norm|fc)\.(.+)", name)
    if head:
        return f"classifier.{'0' if head[1] == 'norm' else '2'}.{head[2]}", value
    return name, value


for _size in SIZES:
    register("backbone", _size)(partial(ConvNeXt, _size))
