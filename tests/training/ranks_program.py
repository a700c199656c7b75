"""One of several processes: the gradients of a batch, written to a folder. Started by test_ranks.py.

python ranks_program.py DATA FOLDER, with torchrun's environment or without.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from cvgeo.config.load import resolve
from cvgeo.data.dataset_files import read_dataset
from cvgeo.data.loader import PairLoader
from cvgeo.data.pair_facts import PairFacts
from cvgeo.losses import build_loss
from cvgeo.models import build_embedder
from cvgeo.report import Reporter
from cvgeo.training.ranks import Ranks, joined
from cvgeo.training.step import BatchGradients

VIEW = {"ground_height": 16, "ground_width": 64, "aerial_height": 16, "aerial_width": 64}
MODEL = {"view": VIEW, "aggregator_options": {"columns": 4, "out_channels": 8}}
BATCH = 7  # divided unequally
LOSSES = ("weighted_soft_margin_triplet", "info_nce")


def gradients_of(data: str, loss: str, norm: str, chunk: int, ranks: Ranks) -> dict[str, torch.Tensor]:
    """The loss and the gradients of a batch, and the running statistics after it."""
    model = MODEL | {"backbone_options": {"width": 8, "norm": norm}}
    train = {"batch_size": BATCH, "cache_chunk": chunk, "roll": 0.5, "photometric": 0.2, "loss": {"name": loss}}
    config = resolve("tiny", "demo", {"model": model, "train": train})
    torch.manual_seed(0)
    embedder = build_embedder(config.model, "none").train()
    own = build_loss(loss, {}, embedder.descriptor_size)
    dataset = read_dataset(data)
    loader = PairLoader(dataset, config.model.view, jobs=1, memory=1 << 30, reporter=Reporter())
    rows = np.stack([np.arange(BATCH), np.arange(BATCH)], axis=1)[ranks.part(BATCH)]
    (pairs,) = loader.pairs([rows])
    value, count = BatchGradients(embedder, own, config, PairFacts(dataset), ranks)(pairs, 3, 5)
    ranks.average_statistics(embedder)
    assert count == BATCH
    named = [*embedder.named_parameters(), *own.named_parameters()]
    found = {name: one.grad for name, one in named if one.grad is not None}
    return found | {"value": value, **{name: one for name, one in embedder.named_buffers() if "running" in name}}


def main(data: str, folder: Path) -> None:
    """Write what each case gives as `folder/case.safetensors`, the rank in its name."""
    with joined(torch.device("cpu")) as ranks:
        cases = [(loss, "group", chunk) for loss in LOSSES for chunk in (0, 2)]
        for loss, norm, chunk in [*cases, ("info_nce", "batch", 0)]:
            found = gradients_of(data, loss, norm, chunk, ranks)
            save_file(found, folder / f"{loss}-{norm}-{chunk}-{ranks.size}-{ranks.rank}.safetensors")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(sys.argv[1], Path(sys.argv[2]))
