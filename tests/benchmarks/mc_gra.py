"""What share of a training step of the paper's model its attention takes, part by part, at the paper's sizes.

    python tests/benchmarks/mc_gra.py [--quick] [--device cuda] [--batch N] [--threads N]

One JSON line: milliseconds of forward and backward of one whole branch (ResNet-50, MC_GRA, MixVPR, 112x616), best of
several, and of parts of it by themselves as shares of that: the attention, its context branch with the deformable
convolutions in it, its relation branch with the affinities in it, the aggregator; and the deformable convolutions by
products of matrices, which the deterministic mode takes on CUDA.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cvgeo.config.load import load_model_config
from cvgeo.models import build_embedder
from cvgeo.models.attention.deformable import DeformableConv2d, separable_deformable
from cvgeo.models.embedder import Branch


def _parts(branch: Branch, batch: int, device: torch.device) -> dict[str, Callable[[], Tensor]]:
    """What is measured, by name: each gives something to go back from."""
    channels, height, width = branch.grid
    images = torch.randn(batch, 3, *branch.size, device=device)
    features = torch.randn(batch, channels, height, width, device=device, requires_grad=True)
    pooled = torch.randn(batch, 1, height, width, device=device, requires_grad=True)
    attention = branch.attention
    context, relation = attention.context, attention.relation

    def separable(module: DeformableConv2d) -> Tensor:
        offset, modulation = module.predicted(pooled)
        return separable_deformable(pooled, offset, module.weight, module.bias, modulation)

    return {
        "whole": lambda: branch(images).descriptor,
        "attention": lambda: attention(features)[0],
        "context": lambda: context(features),
        "deformable": lambda: context.small(pooled) + context.large(pooled),
        "deformable_separable": lambda: separable(context.small) + separable(context.large),
        "relation": lambda: relation(features),
        "affinity": lambda: relation.affinity(features),
        "aggregator": lambda: branch.aggregator(features),
    }


def _milliseconds(part: Callable[[], Tensor], rounds: int, device: torch.device) -> float:
    found = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        part().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        found.append(1e3 * (time.perf_counter() - started))
    return min(found[1:])


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one picture, one round")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    words = parser.parse_args(arguments)
    batch, rounds = (1, 1) if words.quick else (words.batch, words.rounds)
    device, before = torch.device(words.device), torch.get_num_threads()
    torch.set_num_threads(words.threads)
    try:
        torch.manual_seed(0)
        branch = build_embedder(load_model_config("mc_gra"), "none").train().to(device).branch("ground")
        parts = _parts(branch, batch, device)
        found = {name: _milliseconds(part, rounds, device) for name, part in parts.items()}
    finally:
        torch.set_num_threads(before)
    record: dict[str, Any] = {"benchmark": "mc_gra", "device": words.device, "batch": batch, "threads": words.threads}
    record["milliseconds"] = {name: round(one, 2) for name, one in found.items()}
    record["share"] = {name: round(one / found["whole"], 4) for name, one in found.items() if name != "whole"}
    print(json.dumps(record))
    return record


if __name__ == "__main__":
    main()
