"""Batch norm in training: whether a model has any, and passes that leave its running statistics alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def learning_norms(model: nn.Module) -> list[nn.Module]:
    """The batch norms of a model that are in training mode: they normalise by the batch, and update their statistics.

    Those that are frozen or folded into convolutions stay in evaluation mode.
    """
    return [one for one in model.modules() if isinstance(one, _BatchNorm) and one.training]


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Passes that do not count: batch norm normalises as it does in training, without updating its statistics."""
    norms = [one for one in learning_norms(model) if one.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        # Not without tracking: what autograd keeps of both passes must agree.
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
