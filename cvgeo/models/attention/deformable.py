"""Deformable convolution (Dai et al. 2017; paper, Eq. 4 and Fig. 4), by torchvision's operator.

Its gradient on CUDA adds atomically, in whatever order: not twice the same bits. Where those are asked for
(`torch.use_deterministic_algorithms`), samples are taken by products of matrices instead, which is slower.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from cvgeo.models.layers import promoted, without_autocast


class DeformableConv2d(nn.Conv2d):
    """A convolution that samples beside its grid, by offsets which another 3x3 convolution predicts from the input.

    The offsets start at 0, so that it starts as the ordinary convolution of its weights. `modulated` also scales each
    sample by a factor in 0..2 that starts at 1 (Zhu et al. 2019); the paper cites both and describes the plain one.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, modulated: bool = False) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.samples = kernel_size * kernel_size
        self.modulated = modulated
        self.offset = nn.Conv2d(in_channels, self.samples * (3 if modulated else 2), 3, padding=1)
        nn.init.zeros_(self.offset.weight)
        nn.init.zeros_(self.offset.bias)

    def predicted(self, input: Tensor) -> tuple[Tensor, Tensor | None]:
        """Where and how strongly it samples: offsets (B, 2 K, H, W) of the kernel's K samples, row by row, each (row,
        column) in pixels, and factors (B, K, H, W) in 0..2 or None; in at least single precision.
        """
        # Half precision is too coarse for places.
        with without_autocast(input.device):
            weight, bias = promoted(self.offset.weight), promoted(self.offset.bias)
            both = functional.conv2d(promoted(input), weight, bias, padding=1)
        places = 2 * self.samples
        return both[:, :places], 2 * torch.sigmoid(both[:, places:]) if self.modulated else None

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        offset, modulation = self.predicted(input)
        # torchvision has no half precision for it on CPUs.
        with without_autocast(input.device):
            exact, weight, bias = promoted(input), promoted(self.weight), promoted(self.bias)
            if input.is_cuda and torch.are_deterministic_algorithms_enabled():
                result = separable_deformable(exact, offset, weight, bias, modulation)
            else:
                from torchvision.ops import deform_conv2d

                result = deform_conv2d(exact, offset, weight, bias, padding=self.padding, mask=modulation)
        return result.to(input.dtype)


def separable_deformable(
    input: Tensor, offset: Tensor, weight: Tensor, bias: Tensor, modulation: Tensor | None = None
) -> Tensor:
    """torchvision's `deform_conv2d` for odd square kernels that keep the size, one bit like the other on any device.

    A bilinear sample is a row of weights over the rows times the picture times one over the columns: dense products,
    whose gradients are products again. Best for few channels, such as the context branch's one.

    Args:
        input: (B, C, H, W).
        offset: (B, 2 K, H, W), as `DeformableConv2d.predicted`.
        weight: (C', C, k, k), K = k k.
        bias: (C',).
        modulation: (B, K, H, W) or None.

    Returns:
        (B, C', H, W).
    """
    batch, _, height, width = input.shape
    kernel = weight.shape[-1]
    samples = torch.arange(kernel * kernel, device=input.device).view(-1, 1, 1)
    rows = samples // kernel - kernel // 2 + torch.arange(height, device=input.device).view(-1, 1)
    columns = samples % kernel - kernel // 2 + torch.arange(width, device=input.device)
    offset = offset.view(batch, -1, 2, height, width)
    over_rows = _bilinear_weights((rows + offset[:, :, 0]).flatten(1), height)
    over_columns = _bilinear_weights((columns + offset[:, :, 1]).flatten(1), width)
    taken = (torch.matmul(over_rows[:, None], input) * over_columns[:, None]).sum(dim=-1)
    taken = taken.view(batch, -1, kernel * kernel, height, width)
    if modulation is not None:
        taken = taken * modulation[:, None]
    return torch.einsum("bckhw,ock->bohw", taken, weight.flatten(2)) + bias.view(-1, 1, 1)


def _bilinear_weights(places: Tensor, size: int) -> Tensor:
    """Of places (B, P) on a line the shares (B, P, size) of its nodes; none beyond its ends.

    At a node the slope is that towards the next one, as torchvision's: all samples start at nodes, and would stay there
    if it were 0.
    """
    low = places.detach().floor()
    share = (places - low).unsqueeze(-1)
    steps = torch.arange(size, device=places.device) - low.unsqueeze(-1)
    return torch.where(steps == 0, 1 - share, torch.where(steps == 1, share, 0.0))


def context_convolution(kernel_size: int, deformable: bool, modulated: bool) -> nn.Conv2d:
    """The 1-channel convolution of the context branch, deformable or ordinary (paper, Table 5)."""
    if deformable:
        return DeformableConv2d(1, 1, kernel_size, modulated)
    return nn.Conv2d(1, 1, kernel_size, padding=kernel_size // 2)
