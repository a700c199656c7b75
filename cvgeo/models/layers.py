"""Small pieces that several parts share: masks on feature grids, area pooling, azimuth that wraps around."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional


def mask_on_grid(mask: Tensor, height: int, width: int) -> Tensor:
    """Which feature nodes are seen: those with at least half of their pixels seen.

    `mask` is (B, H, W) bool, the result (B, height, width) bool. A picture in which no node is half seen keeps the
    nodes that are seen best, so that a narrow strip still has some.
    """
    share = functional.adaptive_avg_pool2d(mask.float().unsqueeze(1), (height, width)).squeeze(1)
    best = share.amax(dim=(1, 2), keepdim=True)
    return (share >= best.clamp(max=0.5)) & (share > 0)


def masked_mean(features: Tensor, mask: Tensor | None, dim: int | tuple[int, ...], keepdim: bool = False) -> Tensor:
    """Mean of (B, C, H, W) features over spatial dimensions, seen nodes only; 0 where there are none."""
    if mask is None:
        return features.mean(dim=dim, keepdim=keepdim)
    weight = mask.unsqueeze(1).to(features.dtype)
    total = (features * weight).sum(dim=dim, keepdim=keepdim)
    return total / weight.sum(dim=dim, keepdim=keepdim).clamp(min=1.0)


def seen_maximum(features: Tensor, mask: Tensor | None) -> Tensor:
    """Maximum (B, C, 1, 1) of (B, C, H, W) features over the seen nodes; 0 where there are none."""
    if mask is not None:
        features = features.masked_fill(~mask.unsqueeze(1), -torch.inf)
    largest = features.amax(dim=(2, 3), keepdim=True)
    return torch.where(largest.isneginf(), 0.0, largest)


def masked(features: Tensor, mask: Tensor | None) -> Tensor:
    """(B, C, H, W) features with the unseen nodes at 0."""
    return features if mask is None else features * mask.unsqueeze(1).to(features.dtype)


def promoted(values: Tensor) -> Tensor:
    """The same in at least single precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """A context in which autocast lowers no precision on a device (the meta device knows none)."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def unit(descriptors: Tensor) -> Tensor:
    """(B, D) scaled to length 1, in at least single precision; 0 stays 0."""
    return functional.normalize(promoted(descriptors), dim=-1)


def area_weights(size: int, bins: int) -> Tensor:
    """(bins, size) matrix whose row b holds how much of each of `size` equal cells lies in bin b of `bins` equal ones.

    Unlike adaptive pooling all bins are equally wide, also where `size` is not a multiple of `bins`.
    """
    edges = torch.arange(bins + 1, dtype=torch.float64) * size / bins
    cells = torch.arange(size, dtype=torch.float64)
    upper = torch.minimum(edges[1:, None], cells + 1)
    lower = torch.maximum(edges[:-1, None], cells)
    return (upper - lower).clamp(min=0).float()


class AzimuthConv2d(nn.Conv2d):
    """A convolution whose padding wraps around in azimuth (the last dimension) and is zero in the other."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        rows, columns = self.padding
        input = functional.pad(input, (columns, columns, 0, 0), mode="circular")
        return functional.conv2d(input, self.weight, self.bias, self.stride, (rows, 0), self.dilation, self.groups)


class AzimuthMaxPool2d(nn.MaxPool2d):
    """Max pooling whose padding wraps around in azimuth."""

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        padding = int(self.padding)
        input = functional.pad(input, (padding, padding, 0, 0), mode="circular")
        return functional.max_pool2d(input, self.kernel_size, self.stride, (padding, 0))


class SameConv2d(nn.Conv2d):
    """TensorFlow's SAME padding: the output has ceil(size / stride) nodes, an odd rest of padding goes to the end."""

    circular = False

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        rows, columns = (self._padding(size, axis) for axis, size in enumerate(input.shape[-2:]))
        input = functional.pad(input, (*columns, 0, 0), mode="circular" if self.circular else "constant")
        input = functional.pad(input, (0, 0, *rows))
        return functional.conv2d(input, self.weight, self.bias, self.stride, groups=self.groups)

    def _padding(self, size: int, axis: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[axis], self.stride[axis]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def wrap_azimuth(module: nn.Module) -> nn.Module:
    """Make every padded convolution and max pooling in `module` wrap around; weights keep their names."""
    for name, child in list(module.named_children()):
        if type(child) is nn.Conv2d and child.padding != (0, 0):
            setattr(module, name, _wrapped_convolution(child))
        elif isinstance(child, SameConv2d):
            child.circular = True
        elif type(child) is nn.MaxPool2d and child.padding:
            setattr(module, name, AzimuthMaxPool2d(child.kernel_size, child.stride, child.padding))
        else:
            wrap_azimuth(child)
    return module


def _wrapped_convolution(old: nn.Conv2d) -> AzimuthConv2d:
    sizes = (old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation, old.groups)
    new = AzimuthConv2d(*sizes, bias=old.bias is not None, device=old.weight.device)
    # The same parameters: what was frozen or loaded before stays so.
    new.weight, new.bias = old.weight, old.bias
    return new
