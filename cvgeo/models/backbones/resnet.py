"""ResNet-18, -34 and -50 (He et al. 2016) up to layer2, layer3 or layer4, from torchvision.

The paper removes the fourth residual module (Section 4.2): layer3, stride 16. Its 112 x 616 pictures become 7 x 39
features, each convolution rounding up.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.backbones.base import Backbone, torchvision_weights
from cvgeo.models.registry import register


class ResNet(Backbone):
    """torchvision's ResNet without its head; parameter names are torchvision's.

    Options: `layers` 2 (stride 8), 3 (16, the paper's) or 4 (32); `pool` false leaves the first max pooling out and
    halves the stride (GeoDTR); and those of `Backbone`. Stages for `freeze` are the stem, layer1, layer2, ... (the
    paper freezes none; MixVPR's authors freeze the stem, layer1 and layer2: 3).
    """

    def __init__(
        self,
        depth: int,
        layers: int = 3,
        pool: bool = True,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__()
        if layers not in (2, 3, 4):
            raise UsageError(f"layers = {layers} of resnet{depth}", mend="2, 3 or 4")
        # Here, not above: importing torchvision takes as long as torch itself, and other backbones do without.
        from torchvision import models

        whole = getattr(models, f"resnet{depth}")(weights=None)
        self.depth, self.stride = depth, 2 ** (layers + int(pool))
        self.conv1, self.bn1, self.relu = whole.conv1, whole.bn1, whole.relu
        self.maxpool = whole.maxpool if pool else nn.Identity()
        self.layer_names = [f"layer{number}" for number in range(1, layers + 1)]
        for name in self.layer_names:
            setattr(self, name, getattr(whole, name))
        self.out_channels = (64 if depth < 50 else 256) * 2 ** (layers - 1)
        # A whole network's file serves; only what is cut off here may be too much in it.
        self.discarded = ("fc.", *(f"layer{number}." for number in range(layers + 1, 5)))
        stages = [[self.conv1, self.bn1], *([getattr(self, name)] for name in self.layer_names)]
        self.finish(stages, freeze, batch_norm, circular)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, ceil(H / stride), ceil(W / stride))."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for name in self.layer_names:
            features = getattr(self, name)(features)
        return features

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """torchvision's IMAGENET1K_V1 (the paper's time), downloaded into torch's cache."""
        return torchvision_weights(f"resnet{self.depth}")


@register("backbone", "resnet18")
def resnet18(**options: int | str | bool) -> ResNet:
    """ResNet-18: 256 channels at layer3, 2.8 M parameters."""
    return ResNet(18, **options)


@register("backbone", "resnet34")
def resnet34(**options: int | str | bool) -> ResNet:
    """ResNet-34: 256 channels at layer3, 8.2 M parameters."""
    return ResNet(34, **options)


@register("backbone", "resnet50")
def resnet50(**options: int | str | bool) -> ResNet:
    """ResNet-50: 1024 channels at layer3, 8.5 M parameters; the paper's."""
    return ResNet(50, **options)
