"""DSM (Shi et al., CVPR 2020): a descriptor that keeps rows and azimuth columns, for circular correlation.

Three 3x3 convolutions, 512 -> 256 -> 64 -> 16 channels, the first two of stride 2 in height and with a ReLU: 128 x 512
pictures by VGG-16 to conv4_3 (16 x 64) give 4 x 64 x 16 numbers, 5.6 degrees a column. Descriptors are compared at
every roll of the columns: the roll with the largest inner product is the heading, and the score is the inner product
there with the aerial columns that the ground view sees, L2-normalised. That is the loss's part in training
(`cvgeo.losses.pairs.rolled_similarities`) and retrieval's in search (`cvgeo.retrieval.heading`). The official code pads
the aerial branch around the azimuth and the ground branch, which may see less than the whole circle, by zeros.
"""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.layers import masked, unit, wrap_azimuth
from cvgeo.models.registry import register


@register("aggregator", "dsm")
class DynamicSimilarity(nn.Module):
    """Reduced features, column after column: (columns, rows x `out_channels`), L2-normalised.

    Options: `out_channels` (16), `inner` ([256, 64]), `circular`, whether its convolutions wrap around, and
    `normalise`: `whole` (one L2 norm), or `column` (each column to the same norm first, so that all crops of an aerial
    descriptor are equally long and the largest inner product is the largest score). Columns of which nothing is seen
    are 0: they tell the comparison what to crop the aerial descriptor to.
    """

    rolls = True
    crops = True

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        out_channels: int = 16,
        inner: tuple[int, int] = (256, 64),
        circular: bool = False,
        normalise: str = "whole",
    ) -> None:
        super().__init__()
        if normalise not in ("whole", "column"):
            raise UsageError(f"normalise = {normalise!r}", mend="whole or column")
        self.normalise = normalise
        first, second = inner
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, first, 3, (2, 1), 1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, (2, 1), 1),
            nn.ReLU(),
            nn.Conv2d(second, out_channels, 3, 1, 1),
        )
        for module in self.reduce:
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
        if circular:
            wrap_azimuth(self)
        rows = ((height + 1) // 2 + 1) // 2
        self.azimuth_columns, self.descriptor_size = width, width * rows * out_channels

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, W * rows * out_channels), L2-normalised."""
        reduced = self.reduce(masked(features, mask))
        if mask is not None:
            reduced = masked(reduced, mask.any(dim=1, keepdim=True).expand(-1, reduced.shape[2], -1))
        columns = reduced.permute(0, 3, 2, 1).flatten(2)
        return unit((unit(columns) if self.normalise == "column" else columns).flatten(1))
