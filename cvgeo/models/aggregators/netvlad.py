"""NetVLAD (Arandjelovic et al., CVPR 2016), as CVM-Net uses it (Hu et al., CVPR 2018).

With features x_i of length 1, assignments a_ik = softmax_k(w_k . x_i + b_k) and centres c_k, which are learned apart
from w_k:  V_k = sum_i a_ik (x_i - c_k), each V_k L2-normalised, all together L2-normalised, and then by CVM-Net reduced
by one linear map, whose result may be gated: y * sigmoid(G y + g) (Miech et al. 2017).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.models.layers import promoted, unit
from cvgeo.models.registry import register


@register("aggregator", "netvlad")
class NetVLAD(nn.Module):
    """Residuals to `clusters` centres, summed over the seen nodes.

    Options: `clusters` (64); `out_channels`, the length of the reduced descriptor (0: clusters x C, not reduced);
    `gating` of the reduced descriptor.
    """

    any_grid = True

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        clusters: int = 64,
        out_channels: int = 0,
        gating: bool = False,
    ) -> None:
        super().__init__()
        if clusters < 1 or (gating and not out_channels):
            mend = "set clusters to 1 or more, and gating only with out_channels"
            raise UsageError(f"clusters = {clusters}, out_channels = {out_channels}, gating = {gating}", mend=mend)
        self.assign = nn.Conv2d(channels, clusters, 1)
        self.centres = nn.Parameter(torch.empty(clusters, channels))
        self.reduce = nn.Linear(clusters * channels, out_channels) if out_channels else None
        self.gate = nn.Linear(out_channels, out_channels) if gating else None
        self.descriptor_size = out_channels or clusters * channels
        for weight in (self.assign.weight, self.assign.bias, self.centres):
            nn.init.normal_(weight, std=1 / math.sqrt(channels))

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, D), L2-normalised."""
        features = functional.normalize(promoted(features), dim=1)
        shares = torch.softmax(self.assign(features), dim=1).flatten(2)
        if mask is not None:
            shares = shares * mask.flatten(1).unsqueeze(1).to(shares.dtype)
        sums = shares @ features.flatten(2).transpose(1, 2)
        residuals = sums - shares.sum(dim=2, keepdim=True) * self.centres
        vlad = unit(functional.normalize(residuals, dim=2).flatten(1))
        if self.reduce is None:
            return vlad
        reduced = self.reduce(vlad)
        return unit(reduced if self.gate is None else reduced * torch.sigmoid(self.gate(reduced)))
