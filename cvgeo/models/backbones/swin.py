"""Swin Transformer (Liu et al., ICCV 2021) from torchvision: attention within windows of 7 x 7, shifted by turns.

Any input size is taken: grids are padded to whole windows, an odd rest of a reduction by a zero row or column.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.backbones.base import Backbone, check_stages, torchvision_weights
from cvgeo.models.registry import register

SIZES = ("swin_t", "swin_s", "swin_b")


class Swin(Backbone):
    """Swin without its head: 768 (t, s) or 1024 (b) channels at stride 32; any picture size, no wrapping around.

    Parameter names are torchvision's. Options: `stages` 2 (stride 8), 3 (16) or 4 (32, the default, with its final
    layer norm); `drop_path` as ConvNeXt's; `freeze` and `batch_norm` as `Backbone`'s (it has none). Its windows end at
    the picture's edges, in torchvision's operator as in the paper, and so `circular` is refused.
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
        if circular:
            mend = "set circular=false, or take a convolutional backbone"
            raise UsageError(f"circular = true: the windows of {size} do not wrap around", mend=mend)
        from torchvision import models

        whole = getattr(models, size)(weights=None)
        blocks = [module for module in whole.modules() if hasattr(module, "stochastic_depth")]
        for number, block in enumerate(blocks):
            block.stochastic_depth.p = drop_path * number / (len(blocks) - 1)
        self.size, self.stride = size, 2 ** (stages + 1)
        self.features = whole.features[: 2 * stages]
        self.norm = whole.norm if stages == 4 else nn.Identity()
        later = tuple(f"features.{number}." for number in range(2 * stages, 8))
        self.discarded = ("head.", *later, *(() if stages == 4 else ("norm.",)))
        self.out_channels = self.features[-1][0].norm1.normalized_shape[0]
        pairs = [[self.features[number], self.features[number + 1]] for number in range(0, 2 * stages, 2)]
        self.finish(pairs, freeze, batch_norm, circular=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, h, w): H / 4 and W / 4 rounded down, then halved rounding up."""
        return self.norm(self.features(images)).permute(0, 3, 1, 2)

    def imagenet_weights(self) -> Mapping[str, Tensor]:
        """torchvision's IMAGENET1K_V1."""
        return torchvision_weights(self.size)


for _size in SIZES:
    register("backbone", _size)(partial(Swin, _size))
