"""MixVPR (Ali-bey et al., WACV 2023), the paper's aggregator (Section 3.3, Eq. 14-16).

Feature maps, flattened, are mixed by a chain of MLPs over positions; two linear maps then reduce channels and rows.
Its weights belong to one grid size. The paper does not give depth, ratio and sizes: the published model's are the
defaults of the preset `mc_gra` (mix_depth 4, mlp_ratio 1, out_channels 1024, out_rows 4: 4096 numbers).
"""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.models.layers import masked, unit
from cvgeo.models.registry import register


class FeatureMixer(nn.Module):
    """One mixer (Eq. 14): x + MLP(LayerNorm(x)) over the H W positions of each channel."""

    def __init__(self, positions: int, mlp_ratio: float = 1) -> None:
        super().__init__()
        hidden = max(1, int(positions * mlp_ratio))
        self.mix = nn.Sequential(
            nn.LayerNorm(positions), nn.Linear(positions, hidden), nn.ReLU(), nn.Linear(hidden, positions)
        )
        for layer in (self.mix[1], self.mix[3]):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, N) -> (B, C, N)."""
        return features + self.mix(features)


class MixVPR(nn.Module):
    """Holistic aggregation to a descriptor of out_channels x out_rows numbers, L2-normalised.

    `in_channels`, `in_h`, `in_w` are the size of the features. A mask sets unseen features to 0 before they are mixed;
    the mixing itself, being over fixed positions, cannot leave them out.
    """

    def __init__(
        self,
        in_channels: int = 1024,
        in_h: int = 20,
        in_w: int = 20,
        out_channels: int = 512,
        mix_depth: int = 1,
        mlp_ratio: float = 1,
        out_rows: int = 4,
    ) -> None:
        super().__init__()
        self.descriptor_size = out_channels * out_rows
        self.mix = nn.Sequential(*[FeatureMixer(in_h * in_w, mlp_ratio) for _ in range(mix_depth)])
        self.channel_proj = nn.Linear(in_channels, out_channels)
        self.row_proj = nn.Linear(in_h * in_w, out_rows)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) and a mask (B, H, W) or None -> (B, out_channels * out_rows)."""
        mixed = self.mix(masked(features, mask).flatten(2))
        reduced = self.channel_proj(mixed.transpose(1, 2))
        rows = self.row_proj(reduced.transpose(1, 2))
        return unit(rows.flatten(1))


@register("aggregator", "mixvpr")
def mixvpr(channels: int, height: int, width: int, **options: int | float) -> MixVPR:
    """MixVPR on a grid of height x width features; options as the class's."""
    return MixVPR(channels, height, width, **options)
