"""What a model's attention does with a picture: its map, MC_GRA's sampling points, the relations of one node.

All is read beside an ordinary forward pass, by hooks; the models know nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from cvgeo.errors import UsageError
from cvgeo.explain.gradcam import PairMaps, scaled
from cvgeo.models import Embedder, Embedding
from cvgeo.models.attention.deformable import DeformableConv2d
from cvgeo.models.attention.mc_gra import RelationBranch
from cvgeo.models.attention.none import NoAttention


@dataclass(frozen=True)
class SamplingPoints:
    """Where the kernels of one size sample: `places` (B, h, w, K, 2), row and column in nodes of the grid (0 is the
    centre of the first one), `weights` (B, h, w, K) the factor of each sample, 1 unless it is modulated.
    """

    kernel_size: int
    places: Tensor
    weights: Tensor


def has(model: Embedder, what: str) -> bool:
    """Whether a model has `attention`, deformable sampling `points` or a `relation` branch in both views."""
    parts = [branch.attention for branch in model.branches.values()]
    if what == "attention":
        return not any(isinstance(part, NoAttention) for part in parts)
    kind = {"points": DeformableConv2d, "relation": RelationBranch}[what]
    return all(_parts(part, kind) for part in parts)


def _parts(module: nn.Module, kind: type) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, kind)]


@torch.no_grad()
def attention_maps(model: Embedder, ground: Tensor, aerial: Tensor, ground_mask: Tensor | None = None) -> PairMaps:
    """The attention of both views as it is multiplied onto the features, 0..1 and not scaled.

    Arguments as `grad_cam`'s. Raises UsageError for a model without attention.
    """
    first, second = model.embed("ground", ground, ground_mask), model.embed("aerial", aerial)
    return PairMaps(_similarity(first, second), _attention(first), _attention(second))


def _similarity(first: Embedding, second: Embedding) -> Tensor:
    return (first.descriptor * second.descriptor).sum(dim=1)


def _attention(embedding: Embedding) -> Tensor:
    if embedding.attention is None:
        raise UsageError("the model has no attention", mend="ask for its Grad-CAM")
    return embedding.attention


@contextmanager
def _entering(parts: list[nn.Module]) -> Iterator[dict[nn.Module, tuple]]:
    """The arguments with which parts of a model are called, by part, of the last call."""
    taken: dict[nn.Module, tuple] = {}
    hooks = [part.register_forward_pre_hook(lambda part, arguments: taken.update({part: arguments})) for part in parts]
    try:
        yield taken
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def sampling_points(model: Embedder, view: str, images: Tensor, mask: Tensor | None = None) -> list[SamplingPoints]:
    """Where the deformable kernels of a view sample pictures (B, 3, H, W), smallest kernel first; [] without any.

    Source: paper, Eq. 4 and Fig. 4.
    """
    kernels = _parts(model.branch(view).attention, DeformableConv2d)
    with _entering(kernels) as taken:
        model.embed(view, images, mask)
    return [_points(kernel, taken[kernel][0]) for kernel in sorted(kernels, key=lambda one: one.kernel_size)]


def _points(kernel: DeformableConv2d, input: Tensor) -> SamplingPoints:
    offset, modulation = kernel.predicted(input)
    batch, _, height, width = offset.shape
    size = kernel.kernel_size[0]
    rows, columns = torch.arange(height, device=offset.device), torch.arange(width, device=offset.device)
    reach = torch.arange(size, device=offset.device) - size // 2
    node = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    sample = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), dim=-1).flatten(0, 1)
    moved = offset.view(batch, size * size, 2, height, width).permute(0, 3, 4, 1, 2)
    places = node[None, :, :, None] + sample + moved
    weights = places.new_ones(places.shape[:-1]) if modulation is None else modulation.permute(0, 2, 3, 1)
    return SamplingPoints(size, places, weights)


@torch.no_grad()
def relation_map(
    model: Embedder, view: str, images: Tensor, node: tuple[int, int], mask: Tensor | None = None
) -> Tensor:
    """The affinity r_ij (paper, Eq. 7) of node i = (row, column) with all nodes j, divided by its largest: (B, h, w).

    Raises UsageError for a model without a relation branch.
    """
    branches = _parts(model.branch(view).attention, RelationBranch)
    if not branches:
        raise UsageError("the model has no relation branch", mend="ask for its Grad-CAM")
    with _entering(branches[:1]) as taken:
        model.embed(view, images, mask)
    affinity = branches[0].affinity(*taken[branches[0]])
    height, width = taken[branches[0]][0].shape[-2:]
    row = affinity[:, node[0] * width + node[1]].view(-1, height, width)
    return scaled(row.relu())
