"""What a model costs to run, counted without running it."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from cvgeo.models.embedder import VIEWS, Embedder


def _deformable_flops(
    input_shape: Any, weight_shape: Any, *other_shapes: Any, out_shape: Any = None, **options: Any
) -> int:
    """Of a deformable convolution: those of the ordinary one. Reading between pixels is not counted."""
    return 2 * prod(out_shape) * prod(weight_shape[1:])


def count_multiply_adds(module: nn.Module, *sizes: tuple[int, ...]) -> int:
    """Multiply-adds of convolutions and matrix products in one call of a module on the meta device, inputs of `sizes`.

    Norms, activations and poolings are not counted, as in published figures.
    """
    from torch.utils.flop_counter import FlopCounterMode

    custom = {}
    if hasattr(torch.ops.torchvision, "deform_conv2d"):
        custom[torch.ops.torchvision.deform_conv2d] = _deformable_flops
    counter = FlopCounterMode(display=False, custom_mapping=custom)
    # With gradients: without them transformer layers take one fused step that the counter does not know.
    with counter, torch.enable_grad():
        module.eval()(*(torch.empty(size, device="meta") for size in sizes))
    return counter.get_total_flops() // 2


def multiply_adds(model: Embedder) -> int:
    """Multiply-adds of both views of one pair, of a model on the meta device."""
    branches = [model.branch(view) for view in VIEWS]
    sizes = [(1, 3, *size) for size in model.sizes]
    return sum(count_multiply_adds(branch, size) for branch, size in zip(branches, sizes, strict=True))
