"""EfficientNet-B0 to -B7 (Tan and Le, ICML 2019) from torchvision."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor

from cvgeo.models.backbones.base import Backbone, check_stages, torchvision_weights
from cvgeo.models.registry import register

VARIANTS = tuple(f"efficientnet_b{number}" for number in range(8))
_STRIDES = {3: 8, 4: 16, 5: 16, 6: 32, 7: 32}


class EfficientNet(Backbone):
    """EfficientNet to its fifth stage, stride 16, or another: B0 gives 112 channels, B7 224.

    Parameter names are torchvision's. Options: `stages` 3 (stride 8), 4, 5 (16, the default), 6 or 7 (32); `drop_path`
    as ConvNeXt's; and those of `Backbone`. Stages for `freeze` are the stem and the seven stages. Its
    squeeze-and-excitation looks at the whole picture, unseen parts included.
    """

    def __init__(
        self,
        variant: str,
        stages: int = 5,
        drop_path: float = 0.0,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__()
        check_stages(variant, stages, 3, 7)
        from torchvision import models

        whole = getattr(models, variant)(weights=None, stochastic_depth_prob=drop_path).features
        self.variant, self.stride = variant, _STRIDES[stages]
        self.features = whole[: stages + 1]
        self.discarded = ("classifier.", *(f"features.{number}." for number in range(stages + 1, len(whole))))
        self.out_channels = self.features[-1][-1].out_channels
        self.finish([[stage] for stage in self.features], freeze, batch_norm, circular)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        return self.features(images)

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """torchvision's IMAGENET1K_V1."""
        return torchvision_weights(self.variant)


for _variant in VARIANTS:
    register("backbone", _variant)(partial(EfficientNet, _variant))
