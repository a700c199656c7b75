"""A training step of the real trainer against a plain eager float32 loop over the same model and the same batches.

    python tests/benchmarks/training.py [--quick] [--compile] [--device cuda] [--batch N] [--steps N] [--rounds N]

The plain loop is what one would write: pictures normalised to contiguous (B, 3, H, W), the loss from its formula,
torch's Adam, no autocast. Both start from the same decoded batches in memory, in this process, in turn; a rate is the
best of several rounds. One JSON line: pairs a second of each way and its ratio to the plain loop; seconds of the first
step, which compiles, apart; and the mean loss over the last tenth of so many steps from the same weights, with its
difference from the plain loop's. On the CPU ResNet-18 with MC_GRA at 48x192 in batches of 8, on CUDA the paper's model
at the paper's sizes in batches of 32, unless told.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parent))

from frame import parser_of, tell

from cvgeo.config.load import resolve
from cvgeo.config.schema import Config
from cvgeo.data.loader import PairBatch
from cvgeo.data.schema import Dataset, Pairs, Panoramas, Tiles
from cvgeo.models import Embedder, build_embedder
from cvgeo.training.trainer import Trainer

RATE, GAMMA = 1e-4, 10.0
Step = Callable[[int], float]


def _config(words: argparse.Namespace, precision: str = "float32", compiled: bool = False) -> Config:
    height, width = words.size
    view = {"ground_height": height, "ground_width": width, "aerial_height": height, "aerial_width": width}
    train = {"batch_size": words.batch, "learning_rate": RATE, "schedule": "constant", "weight_decay": 0.0}
    train |= {"precision": precision, "compile": compiled, "weights": "none"}
    return resolve("mc_gra", "paper", {"model": {"backbone": words.backbone, "view": view}, "train": train})


def make_batches(words: argparse.Namespace, count: int) -> list[PairBatch]:
    """Pairs whose views are two noisy pictures of one pattern, so that there is something to learn."""
    generator = np.random.default_rng(0)
    (height, width), batches = words.size, []
    for number in range(count):
        coarse = generator.integers(0, 256, (words.batch, 4, 16, 3)).astype(np.float32)
        pattern = torch.from_numpy(coarse).permute(0, 3, 1, 2)
        pattern = functional.interpolate(pattern, (height, width), mode="bilinear").permute(0, 2, 3, 1).numpy()
        views = [np.clip(pattern + generator.normal(0, 30, pattern.shape), 0, 255).astype(np.uint8) for _ in range(2)]
        ground, aerial = (torch.from_numpy(np.ascontiguousarray(view)) for view in views)
        rows = np.arange(words.batch) + number * words.batch
        batches.append(PairBatch(ground, None, aerial, [], np.stack([rows, rows], axis=1)))
    return batches


def plain_step(model: Embedder, batches: list[PairBatch], config: Config, device: torch.device) -> Step:
    """A step of the plain loop, by its number; returns the loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    mean, std = (
        torch.tensor(one, device=device).view(1, 3, 1, 1) for one in (config.model.view.mean, config.model.view.std)
    )
    others = ~torch.eye(config.train.batch_size, dtype=torch.bool, device=device)
    model.train()

    def seen(images: Tensor) -> Tensor:
        return (images.permute(0, 3, 1, 2).contiguous().to(device).float() / 255 - mean) / std

    def step(number: int) -> float:
        batch = batches[number % len(batches)]
        ground, aerial = model(seen(batch.ground), seen(batch.aerial))
        distances = 2 - 2 * ground @ aerial.T
        positive = distances.diagonal()[:, None]
        gaps = torch.stack([positive - distances, positive - distances.T])[:, others]
        loss = functional.softplus(GAMMA * gaps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def _dataset(pairs: int) -> Dataset:
    ids, paths, split = [str(number) for number in range(pairs)], [Path("none")] * pairs, ["train"] * pairs
    every = np.arange(pairs)
    return Dataset(
        "made",
        Path("."),
        Panoramas(ids, paths, split=split),
        Tiles(ids, paths, split=split),
        Pairs(every, every, 0 * every),
    )


def our_step(model: Embedder, batches: list[PairBatch], config: Config) -> Step:
    """A step of the trainer, by its number; returns the loss."""
    loader: Any = SimpleNamespace(dataset=_dataset(len(batches) * config.train.batch_size))
    trainer = Trainer(model.train(), config, None, loader, None)  # neither plans batches nor writes

    def step(number: int) -> float:
        before = trainer.progress.loss_sum
        trainer._step(batches[number % len(batches)], len(batches), 2)
        trainer.progress.batch += 1
        return trainer.progress.loss_sum - before

    return step


def _seconds(step: Step, first: int, count: int, device: torch.device) -> float:
    started = time.perf_counter()
    for number in range(first, first + count):
        step(number)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _busy(step: Step, count: int, device: torch.device) -> float:
    """The share of the time in which a CUDA device works."""
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        seconds = _seconds(step, 0, count, device)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6 / seconds


def _last_losses(step: Step, count: int) -> float:
    losses = [step(number) for number in range(count)]
    return float(np.mean(losses[-max(1, count // 10) :]))


def _ways(words: argparse.Namespace) -> dict[str, Config]:
    ways = {"float32": _config(words), "bfloat16": _config(words, "bfloat16")}
    if words.compile:
        ways |= {f"{name}_compiled": _config(words, name, True) for name in tuple(ways)}
    return ways


def measure(words: argparse.Namespace) -> dict[str, Any]:
    """The figures of one model, size and device."""
    device = torch.device(words.device)
    torch.manual_seed(0)
    start = build_embedder(_config(words).model, "none")
    batches = make_batches(words, 4)
    ways = _ways(words)

    def steps() -> dict[str, Step]:
        models = {name: copy.deepcopy(start).to(device) for name in ("plain", *ways)}
        ours = {name: our_step(models[name], batches, config) for name, config in ways.items()}
        return {"plain": plain_step(models["plain"], batches, _config(words), device), **ours}

    torch.backends.cudnn.benchmark = device.type == "cuda"
    running = steps()
    warm = {name: round(_seconds(step, 0, 1, device), 2) for name, step in running.items()}
    rates: dict[str, list[float]] = {name: [] for name in running}
    for number in range(words.rounds):
        for name, step in running.items():
            pairs = words.steps * words.batch
            rates[name].append(pairs / _seconds(step, 1 + number * words.steps, words.steps, device))
    best = {name: max(found) for name, found in rates.items()}
    record: dict[str, Any] = {"benchmark": "training", "device": words.device, "backbone": words.backbone}
    record |= {"size": list(words.size), "batch": words.batch, "threads": torch.get_num_threads()}
    record["pairs_a_second"] = {name: round(rate, 2) for name, rate in best.items()}
    record["ratio"] = {name: round(best[name] / best["plain"], 3) for name in ways}
    record["first_step_seconds"] = warm
    if device.type == "cuda":
        record["name"] = torch.cuda.get_device_name(device)
        record["busy"] = {name: round(_busy(step, words.steps, device), 3) for name, step in running.items()}
    if words.losses:
        losses = {name: _last_losses(step, words.losses) for name, step in steps().items()}
        record |= {"loss_steps": words.losses, "loss": {name: round(one, 4) for name, one in losses.items()}}
        record["loss_difference"] = {name: round(losses[name] / losses["plain"] - 1, 4) for name in ways}
    return record


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(__doc__, "few steps of a small size, not compiled, no losses")
    parser.add_argument("--compile", action="store_true", help="with torch.compile as well: minutes for its first step")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--backbone", help="resnet18 on the CPU, resnet50 on CUDA, unless told")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"), help="of both views")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, help="of a round")
    parser.add_argument("--rounds", type=int, default=5, help="of all ways in turn")
    parser.add_argument("--losses", type=int, help="steps after which losses are compared; 0: none")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    words = parser.parse_args(arguments)
    cuda = words.device.startswith("cuda")
    words.backbone = words.backbone or ("resnet50" if cuda else "resnet18")
    words.size = tuple(words.size or ((112, 616) if cuda else (48, 192)))
    words.batch = words.batch or (32 if cuda else 8)
    words.steps = words.steps or (2 if words.quick else 20 if cuda else 8)
    words.losses = (0 if words.quick else 500 if cuda else 60) if words.losses is None else words.losses
    words.rounds, words.compile = (2, False) if words.quick else (words.rounds, words.compile)
    before = torch.get_num_threads()
    torch.set_num_threads(words.threads)
    try:
        record = measure(words)
    finally:
        torch.set_num_threads(before)
    return tell(record)


if __name__ == "__main__":
    main()
