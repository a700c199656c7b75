"""FCANet (Cai et al., ICCV 2019): ResNet with a feature context-based attention module in every residual block."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from cvgeo.models.attention.fcam import FCAM
from cvgeo.models.backbones.resnet import ResNet
from cvgeo.models.registry import register


class AttentiveBlock(nn.Module):
    """A basic residual block whose branch passes FCAM before it is added; names of weights are the block's own."""

    def __init__(self, block: nn.Module, reduction: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = block.conv1, block.bn1, block.relu
        self.conv2, self.bn2, self.downsample = block.conv2, block.bn2, block.downsample
        self.fcam = FCAM(block.bn2.num_features, reduction)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        branch = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(features)))))
        branch, _ = self.fcam(branch)
        beside = features if self.downsample is None else self.downsample(features)
        return self.relu(branch + beside)


class FCANet(ResNet):
    """ResNet-18 or -34 with FCAM in each block. Options: `reduction` of its channels (16), and those of `ResNet`.

    ImageNet's ResNet weights fill all but FCAM.
    """

    optional = ".fcam."

    def __init__(
        self,
        depth: int,
        layers: int = 4,
        reduction: int = 16,
        freeze: int = 0,
        batch_norm: str = "train",
        circular: bool = False,
    ) -> None:
        super().__init__(depth, layers)
        for name in self.layer_names:
            setattr(self, name, nn.Sequential(*(AttentiveBlock(block, reduction) for block in getattr(self, name))))
        stages = [[self.conv1, self.bn1], *([getattr(self, name)] for name in self.layer_names)]
        self.finish(stages, freeze, batch_norm, circular)


for _depth in (18, 34):
    register("backbone", f"fcanet{_depth}")(partial(FCANet, _depth))
