"""Max pooling in MC_GRA's place: the baseline of the paper's Table 4.

The paper says only that "max pooling" replaces the module in the otherwise unchanged method, so MixVPR stays behind it.
MC_GRA's own maximum (Eq. 5, f_max^c) runs over channels, and so does this one: a node's largest channel, squeezed by a
sigmoid as in Eq. 13, is its weight. Nothing is learned. Behind a ReLU the weight lies in 0.5..1: a node at which no
channel responds counts half.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.models.layers import masked
from cvgeo.models.registry import register


@register("attention", "max_pool")
class MaxPoolGate(nn.Module):
    """The maximum over channels as the nodes' weight; with `over` `window` instead each channel's maximum over 3x3
    nodes (the other reading), which gives no attention map.
    """

    any_grid = True

    def __init__(self, channels: int, height: int, width: int, wrap: bool = True, over: str = "channels") -> None:
        super().__init__()
        if over not in ("channels", "window"):
            raise UsageError(f"over = {over!r} of max_pool", mend="channels or window")
        self.over, self.wrap = over, wrap

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), attention (B, H, W) or None."""
        if self.over == "channels":
            attention = masked(torch.sigmoid(features.amax(dim=1, keepdim=True)), mask)
            return features * attention, attention.squeeze(1)
        seen = features if mask is None else features.masked_fill(~mask.unsqueeze(1), -torch.inf)
        mode = "circular" if self.wrap else "constant"
        padded = functional.pad(seen, (1, 1, 0, 0), mode=mode, value=None if self.wrap else -torch.inf)
        pooled = functional.max_pool2d(functional.pad(padded, (0, 0, 1, 1), value=-torch.inf), 3, 1)
        return masked(torch.where(pooled.isneginf(), 0.0, pooled), mask), None
