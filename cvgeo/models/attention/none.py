"""No attention: the features as they are."""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.models.registry import register


@register("attention", "none")
class NoAttention(nn.Module):
    """Passes the features on; the attention map is None."""

    any_grid = True

    def __init__(self, channels: int, height: int, width: int, wrap: bool = True) -> None:
        super().__init__()

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, None]:
        """(B, C, H, W) -> the same, None."""
        return features, None
