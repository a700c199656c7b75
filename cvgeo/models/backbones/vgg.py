"""VGG-16 (Simonyan and Zisserman 2015) and AlexNet (Krizhevsky et al. 2012) without their heads, from torchvision.

VGG-16 to conv5_3 is the backbone of CVM-Net, CVFT, SAFA and VIGOR; DSM ends at conv4_3. Their released code feeds it
caffe's weights (BGR minus a mean, not scaled); torchvision's want RGB of mean 0 and deviation 1, and so do these.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.backbones.base import Backbone, torchvision_weights
from cvgeo.models.registry import register

# After which module of torchvision's `features` a cut ends (its ReLU), and the stride there.
CUTS = {"conv3_3": (16, 4), "conv4_3": (23, 8), "conv5_3": (30, 16), "pool5": (31, 32)}
STAGES = ((0, 5), (5, 10), (10, 17), (17, 24), (24, 31))


class PlainNetwork(Backbone):
    """A chain of convolutions and poolings, torchvision's `features`, cut after a module; names are torchvision's."""

    discarded = ("classifier.",)

    def __init__(self, source: str, end: int, dropout: dict[int, float]) -> None:
        super().__init__()
        from torchvision import models

        whole = getattr(models, source)(weights=None).features
        self.source = source
        # Dropout stands beside its convolution's ReLU, so that the numbers of modules stay torchvision's.
        cut = [whole[number] for number in range(end)]
        for number, share in dropout.items():
            cut[number] = nn.Sequential(cut[number], nn.Dropout(share))
        self.features = nn.Sequential(*cut)
        later = tuple(f"features.{number}." for number in range(end, len(whole)))
        self.discarded = (*type(self).discarded, *later)
        self.out_channels = [module.out_channels for module in cut if isinstance(module, nn.Conv2d)][-1]

    def stages(self, bounds: tuple[tuple[int, int], ...]) -> list[list[nn.Module]]:
        """The modules between bounds, for `freeze`."""
        cut = list(self.features)
        return [cut[first:last] for first, last in bounds if first < len(cut)]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w); every 2x2 pooling rounds down."""
        return self.features(images)

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """torchvision's IMAGENET1K_V1."""
        return torchvision_weights(self.source)


@register("backbone", "vgg16")
class VGG16(PlainNetwork):
    """VGG-16: 512 channels at conv5_3 (stride 16), 14.7 M parameters.

    Options: `cut` conv3_3 (stride 4), conv4_3 (8), conv5_3 (16) or pool5 (32); `ceil` true lets poolings round up, as
    TensorFlow's SAME padding does (112 x 616 pictures then become 7 x 39, else 7 x 38); `dropout` after each of conv4's
    and conv5's ReLUs (DSM: 0.2), and those of `Backbone`. Stages for `freeze` are the five blocks.
    """

    def __init__(
        self,
        cut: str = "conv5_3",
        ceil: bool = True,
        dropout: float = 0.0,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        if cut not in CUTS:
            raise UsageError(f"cut = {cut!r} of vgg16", mend=", ".join(CUTS))
        end, stride = CUTS[cut]
        dropped = {number: dropout for number in (18, 20, 22, 25, 27, 29) if dropout > 0 and number < end}
        super().__init__("vgg16", end, dropped)
        self.stride = stride
        for module in self.features:
            if isinstance(module, nn.MaxPool2d):
                module.ceil_mode = ceil
        self.finish(self.stages(STAGES), freeze, batch_norm, circular)


@register("backbone", "alexnet")
class AlexNet(PlainNetwork):
    """AlexNet: 256 channels after its last pooling (stride 32), 2.5 M parameters. Stages are its five convolutions."""

    stride = 32

    def __init__(self, freeze: int = 0, batch_norm: str = "train", circular: bool = False) -> None:
        super().__init__("alexnet", 13, {})
        self.finish(self.stages(((0, 3), (3, 6), (6, 8), (8, 10), (10, 13))), freeze, batch_norm, circular)
