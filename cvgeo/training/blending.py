"""Interpolated fine-tuning: between the weights that training began with and those that it has come to.

What is learned from a renderer's pictures is in part the renderer. Weights between both ends keep more of what holds
elsewhere (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def blended(model: nn.Module, start: Mapping[str, Tensor] | None, share: float) -> Iterator[None]:
    """Within it the model has the weights (1 - share) start + share own; with `start` None nothing is done.

    What is no floating-point number, such as a counter, stays the model's own.
    """
    if start is None:
        yield
        return
    own = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    try:
        model.load_state_dict(
            {name: _between(start[name].to(tensor.device), tensor, share) for name, tensor in own.items()}
        )
        yield
    finally:
        model.load_state_dict(own)


def _between(start: Tensor, own: Tensor, share: float) -> Tensor:
    return torch.lerp(start, own, share) if own.is_floating_point() else own
