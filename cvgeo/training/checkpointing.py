"""Activation checkpointing: blocks keep only what comes in, and are computed a second time for their gradients.

Chen et al. 2016, "Training deep nets with sublinear memory cost". The gradients are the same; what a block draws at
random is drawn again alike, and batch norm updates its running statistics once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from cvgeo.models import Embedder
from cvgeo.models.backbones.base import Backbone
from cvgeo.training.statistics import statistics_kept


def checkpointed_blocks(model: Embedder) -> list[nn.Module]:
    """The blocks that are computed twice: those of the backbones, attention and aggregators."""
    found = []
    for branch in model.branches.values():
        for part in (branch.backbone, branch.attention, branch.aggregator):
            found += [one for one in _blocks(part) if any(True for _ in one.parameters())]
    return found


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """What a chain consists of, down to modules that are no chains; a chain of single layers is one block.

    Single layers between blocks are none: all that they keep is what comes in.
    """
    children = [child for child in module.children() if any(True for _ in child.children())]
    if children and isinstance(module, Backbone | nn.Sequential | nn.ModuleList):
        for child in children:
            yield from _blocks(child)
    elif any(True for _ in module.children()):
        yield module


def checkpoint_activations(model: Embedder) -> None:
    """Make a model's blocks forget what they computed until its gradients are wanted; names of weights stay."""
    for block in checkpointed_blocks(model):
        block.forward = partial(_forgetting, block, block.forward)


def _forgetting(block: nn.Module, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled() or not block.training:
        return forward(*inputs, **options)
    contexts = partial(_contexts, block)
    return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **options)


def _contexts(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), statistics_kept(block)
