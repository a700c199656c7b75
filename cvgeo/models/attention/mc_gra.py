"""MC_GRA: multiscale context and global relations jointly guide attention (Hou et al. 2023, Section 3.2, Eq. 5-13).

Where the paper is silent or degenerate, RGA (Zhang et al. 2020), on which it builds, or CBAM (Woo et al. 2018) decides;
each such choice is an option of `MCGRA` that names its alternative.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.models.attention.deformable import context_convolution
from cvgeo.models.attention.position import PositionCoding
from cvgeo.models.layers import masked
from cvgeo.models.registry import register


def convolution_unit(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution without bias, batch norm, ReLU: the embedding functions of Eq. 8-10 and 12."""
    convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


class ContextBranch(nn.Module):
    """Multiscale context (Eq. 5-6): 1x1 convolution to C / `reduction` channels, their maximum and mean, convolved
    with 3x3 and 5x5 deformable kernels, joined by a 1x1 convolution.

    The paper gives no width for the first 1x1 convolution (RGA's C / 8 is taken), and names neither batch norm nor ReLU
    in this branch: there are none. Eq. 5 adds maximum and mean: `pool` "sum"; "concat" keeps both as two channels, as
    CBAM does, and a 1x1 convolution joins them. `deformable` false puts ordinary kernels of the same sizes (Table 5).
    """

    def __init__(self, channels: int, reduction: int, deformable: bool, modulated: bool, pool: str) -> None:
        super().__init__()
        if pool not in ("sum", "concat"):
            raise UsageError(f"context_pool = {pool!r}", mend="sum or concat")
        self.reduce = nn.Conv2d(channels, max(1, channels // reduction), 1)
        self.join_pools = nn.Conv2d(2, 1, 1) if pool == "concat" else None
        self.small = context_convolution(3, deformable, modulated)
        self.large = context_convolution(5, deformable, modulated)
        self.join = nn.Conv2d(2, 1, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W), U' of Eq. 6."""
        reduced = self.reduce(features)
        maximum, mean = reduced.amax(dim=1, keepdim=True), reduced.mean(dim=1, keepdim=True)
        pooled = maximum + mean if self.join_pools is None else self.join_pools(torch.cat([maximum, mean], dim=1))
        pooled = masked(pooled, mask)
        return self.join(torch.cat([self.small(pooled), self.large(pooled)], dim=1))


class RelationBranch(nn.Module):
    """Global relations (Eq. 7-10): the affinities of every node with all N = H W nodes, in both directions.

    r_ij = theta(x_i) . phi(x_j), neither scaled nor made a softmax, as in RGA. Node i gets the row r_i. and the column
    r_.i, each reduced to N / `reduction` channels by its own 1x1 convolution (RGA joins them before one; Eq. 10 writes
    two), and concatenated. The paper says only that this changes the number of channels, to maps "with the same size as
    the input": read as H x W, with RGA's width, batch norm and ReLU. RGA's own features beside the relations (the mean
    of g(x) over channels) are left out: U' stands in their place. The position code is added before theta and phi (the
    paper gives no formula; RGA has none).
    """

    def __init__(self, channels: int, height: int, width: int, wrap: bool, reduction: int, position: str) -> None:
        super().__init__()
        nodes, inner = height * width, max(1, channels // reduction)
        reduced = max(1, nodes // reduction)
        self.out_channels = 2 * reduced
        self.position = PositionCoding(position, channels, height, width, wrap)
        self.theta, self.phi = convolution_unit(channels, inner), convolution_unit(channels, inner)
        self.rows, self.columns = convolution_unit(nodes, reduced), convolution_unit(nodes, reduced)

    def affinity(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, N, N), r_ij in row i (Eq. 7); 0 where either node is unseen."""
        features = self.position(features)
        theta, phi = masked(self.theta(features), mask), masked(self.phi(features), mask)
        return theta.flatten(2).transpose(1, 2) @ phi.flatten(2)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H, W), S of Eq. 10."""
        relations = self.affinity(features, mask)
        grid = (*relations.shape[:2], *features.shape[2:])
        # Node i must hold r_i. along its channels, hence the transpose for the first and none for the second.
        from_node, to_node = relations.transpose(1, 2).reshape(grid), relations.reshape(grid)
        return torch.cat([self.rows(from_node), self.columns(to_node)], dim=1)


class MCGRA(nn.Module):
    """Attention A (Eq. 11-12) from context and relations, multiplied onto the features (Eq. 13, no residual).

    Options: `reduction` 8; `deformable` true (false: ordinary kernels); `modulated` false (true: DCNv2); `context_pool`
    sum (concat: as CBAM); `position` sincos (none: as RGA; learned); `literal` false. Eq. 11 reduces the joint features
    to one channel, which leaves W1 and W2 of Eq. 12 a 1 -> 1 -> 1 chain: `literal` true does so; else they keep their
    k = 1 + 2 (N / reduction) channels and W1 reduces them to k / reduction (RGA). Unseen nodes take no part in the
    affinities and get no attention.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        wrap: bool = True,
        *,
        context: bool = True,
        relation: bool = True,
        reduction: int = 8,
        deformable: bool = True,
        modulated: bool = False,
        context_pool: str = "sum",
        position: str = "sincos",
        literal: bool = False,
    ) -> None:
        super().__init__()
        if reduction < 1:
            raise UsageError(f"reduction = {reduction}", mend="1 or more; the paper's is 8")
        self.context = ContextBranch(channels, reduction, deformable, modulated, context_pool) if context else None
        self.relation = RelationBranch(channels, height, width, wrap, reduction, position) if relation else None
        joint = int(context) + (self.relation.out_channels if self.relation else 0)
        kept = 1 if literal else joint
        self.join = nn.Conv2d(joint, kept, 1)
        self.first = convolution_unit(kept, max(1, kept // reduction))
        second = nn.Conv2d(max(1, kept // reduction), 1, 1, bias=False)
        self.second = nn.Sequential(second, nn.BatchNorm2d(1))

    def attention(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, 1, H, W) in 0..1."""
        parts = [branch(features, mask) for branch in (self.context, self.relation) if branch is not None]
        joint = self.join(torch.cat(parts, dim=1))
        return masked(torch.sigmoid(self.second(self.first(joint))), mask)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, C, H, W), mask (B, H, W) -> features (B, C, H, W), attention (B, H, W)."""
        attention = self.attention(features, mask)
        return features * attention, attention.squeeze(1)


@register("attention", "mc_gra")
def mc_gra(channels: int, height: int, width: int, wrap: bool = True, **options: bool | int | str) -> MCGRA:
    """The paper's module, both branches; options as the class's."""
    return MCGRA(channels, height, width, wrap, **options)


@register("attention", "relation")
def relation(channels: int, height: int, width: int, wrap: bool = True, **options: bool | int | str) -> MCGRA:
    """The relation branch alone: MC_GRA without context."""
    return MCGRA(channels, height, width, wrap, context=False, **options)


@register("attention", "context")
def context(channels: int, height: int, width: int, wrap: bool = True, **options: bool | int | str) -> MCGRA:
    """The context branch alone: MC_GRA without relations."""
    return MCGRA(channels, height, width, wrap, relation=False, **options)
