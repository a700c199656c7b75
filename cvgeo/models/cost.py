"""What a model costs to run, counted without running it."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn

from cvgeo.models.embedder import VIEWS, Embedder

MAPS_AT_ONCE = 5  # of the largest kind, in a forward pass


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


@torch.inference_mode()
def forward_bytes(model: Embedder, view: str) -> int:
    """What one picture's forward pass holds at once at most, estimated: some maps of the largest kind in float32.

    A layer's input, its output, a branch that waits beside them, and what the layer itself makes.
    """
    largest = 0

    def see(module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal largest
        largest = max(largest, *(one.numel() for one in (*inputs, output) if isinstance(one, torch.Tensor)), 0)

    branch = model.branch(view)
    leaves = [one for one in branch.modules() if not any(one.children())]
    hooks = [one.register_forward_hook(see) for one in leaves]
    like = next(model.parameters())
    try:
        branch(torch.zeros(1, 3, *model.sizes[VIEWS.index(view)], device=like.device, dtype=like.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return MAPS_AT_ONCE * 4 * largest


def multiply_adds(model: Embedder) -> int:
    """Multiply-adds of both views of one pair, of a model on the meta device."""
    branches = [model.branch(view) for view in VIEWS]
    sizes = [(1, 3, *size) for size in model.sizes]
    return sum(count_multiply_adds(branch, size) for branch, size in zip(branches, sizes, strict=True))
