"""CVFT (Shi et al., AAAI 2020): ground features carried over to the aerial grid by optimal transport.

Both views: a 3x3 convolution of stride 2 to 64 channels, ReLU; the ground's grid is resized to the aerial one's, 8 x 8,
whose features, flattened, are the descriptor. Ground only: a 1x1 convolution to one map, ReLU and a linear map make the
N x N costs; Sinkhorn's iterations on exp(-100 cost) make the plan (Eq. 4-8); node o becomes sum_i P_io f_i.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.errors import UsageError
from cvgeo.models.layers import masked, promoted, unit
from cvgeo.models.registry import register


def sinkhorn(scores: Tensor, iterations: int = 20) -> Tensor:
    """(B, N, N) logarithms to nearly doubly stochastic matrices: rows, then columns made to sum to 1, so many times."""
    for _ in range(iterations):
        scores = scores - scores.logsumexp(dim=2, keepdim=True)
        scores = scores - scores.logsumexp(dim=1, keepdim=True)
    return scores.exp()


@register("aggregator", "transport")
class FeatureTransport(nn.Module):
    """A grid of `rows` x `columns` nodes of `out_channels` features, transported where `transport` is true.

    Options: `rows`, `columns` (8), `out_channels` (64), `iterations` (20) of Sinkhorn's algorithm, `sharpness` (100);
    `transport`, which belongs to the ground view alone (`[ground] aggregator_options`). The costs start at the
    identity, as in the code. A mask sets unseen features to 0 before the convolution.
    """

    any_grid = True

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        rows: int = 8,
        columns: int = 8,
        out_channels: int = 64,
        iterations: int = 20,
        sharpness: float = 100.0,
        transport: bool = False,
    ) -> None:
        super().__init__()
        if min(rows, columns, out_channels, iterations) < 1:
            raise UsageError("rows, columns, out_channels and iterations of transport", mend="1 or more each")
        self.rows, self.columns, self.iterations, self.sharpness = rows, columns, iterations, sharpness
        nodes = rows * columns
        self.reduce = nn.Conv2d(channels, out_channels, 3, 2, 1)
        self.descriptor_size = nodes * out_channels
        self.summary = nn.Conv2d(out_channels, 1, 1) if transport else None
        self.costs = nn.Linear(nodes, nodes * nodes) if transport else None
        if self.costs is not None:
            nn.init.trunc_normal_(self.costs.weight, std=0.005, a=-0.01, b=0.01)
            with torch.no_grad():
                self.costs.bias.copy_(torch.eye(nodes).flatten())

    def plan(self, grid: Tensor) -> Tensor:
        """(B, C, rows, columns) -> (B, N, N), P_io in row i."""
        summary = torch.relu(self.summary(grid)).flatten(1)
        nodes = self.rows * self.columns
        costs = promoted(self.costs(summary)).view(-1, nodes, nodes)
        return sinkhorn(-self.sharpness * costs, self.iterations)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W), mask (B, H, W) or None -> (B, rows * columns * out_channels), L2-normalised."""
        grid = torch.relu(self.reduce(masked(features, mask)))
        if grid.shape[-2:] != (self.rows, self.columns):
            grid = functional.interpolate(grid, (self.rows, self.columns), mode="bilinear", align_corners=False)
        nodes = promoted(grid).flatten(2)
        if self.costs is not None:
            nodes = nodes @ self.plan(grid)
        return unit(nodes.transpose(1, 2).flatten(1))
