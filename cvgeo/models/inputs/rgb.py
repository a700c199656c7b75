"""The pictures as they are."""

from __future__ import annotations

from torch import Tensor, nn

from cvgeo.models.registry import register


@register("input", "rgb")
class Pictures(nn.Module):
    """Passes the pictures on."""

    out_channels = 3

    def __init__(self, height: int, width: int, view: str, polar: bool, column0_heading: float = 180.0) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> the same."""
        return images
