"""Grad-CAM whose target is the similarity of the two views, not a class (Selvaraju et al. 2017; paper, Fig. 12)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cvgeo.models import Embedder
from cvgeo.models.layers import mask_on_grid, masked_mean

VANISHED = 1e-4  # of the gradients' root mean square: channel weights below it are rounding errors


@dataclass(frozen=True)
class PairMaps:
    """Maps of pairs on the feature grids: `similarity` (B,), `ground` (B, h, w), `aerial` (B, h', w').

    `by_position` (B,) bool says where Grad-CAM's channel weights vanished; see `grad_cam`.
    """

    similarity: Tensor
    ground: Tensor
    aerial: Tensor
    by_position: Tensor | None = None


def grad_cam(model: Embedder, ground: Tensor, aerial: Tensor, ground_mask: Tensor | None = None) -> PairMaps:
    """Where the features of two views make them similar.

    The target is the cosine similarity s of the two descriptors, F the features that enter a branch's aggregator. With
    w_c the mean of ds/dF_c over the grid, the map is ReLU(sum_c w_c F_c), divided by its largest value: 0..1. Unseen
    nodes are 0.

    An aggregator that subtracts each picture's mean features (`columns`) makes every w_c exactly 0. There the gradient
    counts node by node, ReLU(sum_c ds/dF_c (F_c - mean F_c)) (HiResCAM, Draelos and Carin 2020); the mean, whose part
    sums to 0, is left out since the aggregator does not see it.

    Args:
        model: in evaluation mode; its branches may be shared.
        ground, aerial: (B, 3, H, W) each, normalised, on the model's device.
        ground_mask: (B, H, W) bool, True where a ground pixel is seen, or None.
    """
    with torch.enable_grad(), _frozen(model):
        first, ground_features = _embedded(model, "ground", ground, ground_mask)
        second, aerial_features = _embedded(model, "aerial", aerial, None)
        similarity = (first * second).sum(dim=1)
        # Pairs do not meet in evaluation mode: the sum's gradient is each pair's own.
        gradients = torch.autograd.grad(similarity.sum(), (ground_features, aerial_features))
    ground_map, ground_vanished = _weighted(ground_features.detach(), gradients[0], ground_mask)
    aerial_map, aerial_vanished = _weighted(aerial_features.detach(), gradients[1], None)
    return PairMaps(similarity.detach(), ground_map, aerial_map, ground_vanished | aerial_vanished)


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    # Without gradients of weights no graph of the backbone is kept, which would take most of the memory.
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _embedded(model: Embedder, view: str, images: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Descriptors of a view and the features, a leaf of the graph, that entered its aggregator."""
    entered: list[Tensor] = []

    def take(module: nn.Module, arguments: tuple) -> tuple:
        entered.append(arguments[0].detach().requires_grad_())
        return (entered[-1], *arguments[1:])

    hook = model.branch(view).aggregator.register_forward_pre_hook(take)
    try:
        descriptor = model.embed(view, images, mask).descriptor
    finally:
        hook.remove()
    return descriptor, entered[-1]


def _weighted(features: Tensor, gradient: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Maps (B, h, w) of features and gradients (B, C, h, w), and which (B,) of them have vanishing weights."""
    seen = None if mask is None else mask_on_grid(mask, *features.shape[-2:])
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    scale = gradient.square().mean(dim=(1, 2, 3)).sqrt()
    vanished = weights.abs().amax(dim=(1, 2, 3)) <= VANISHED * scale
    by_channel = (weights * features).sum(dim=1)
    by_node = (gradient * (features - masked_mean(features, seen, (2, 3), keepdim=True))).sum(dim=1)
    positive = torch.where(vanished[:, None, None], by_node, by_channel).relu()
    return scaled(positive if seen is None else positive * seen), vanished


def scaled(maps: Tensor) -> Tensor:
    """Maps (B, h, w), none below 0, divided each by its largest value; a map of zeros stays."""
    largest = maps.amax(dim=(1, 2), keepdim=True)
    return maps / torch.where(largest > 0, largest, 1)
