"""The one trainer: epochs of batches, validation, states from which a killed run goes on exactly.

Nothing random is carried from batch to batch: what a batch holds, how it is augmented and what the model itself draws
are functions of (seed, epoch, batch), and of the table of hard neighbours where there is one. A state is therefore
weights, optimiser, table and position, and on the CPU with a fixed number of threads a run that was killed and resumed
ends with the same bits as an undisturbed one. Several processes hold the same weights and stand at the same place;
what they do together they do in the same order (`cvgeo.training.ranks`).
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from cvgeo.config.schema import Config, TrainConfig, to_dict
from cvgeo.data.loader import PairBatch, PairLoader, read_ahead
from cvgeo.data.pair_facts import PairFacts
from cvgeo.data.samplers import UniquePlaceBatches
from cvgeo.errors import CvgeoError, UsageError
from cvgeo.losses import PairLoss, build_loss
from cvgeo.losses.pairs import SEMI_AERIAL
from cvgeo.models import Embedder
from cvgeo.report import Reporter
from cvgeo.training.blending import blended
from cvgeo.training.checkpoint import save_checkpoint
from cvgeo.training.checkpointing import checkpoint_activations
from cvgeo.training.compiling import as_written, compile_model
from cvgeo.training.neighbours import HardSampling
from cvgeo.training.ranks import Ranks
from cvgeo.training.run_folder import Progress, RunFolder
from cvgeo.training.schedule import learning_rate
from cvgeo.training.step import PRECISIONS, BatchGradients, batch_norm_remark
from cvgeo.training.stopping import DeferredStop

OPTIMIZERS = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": functools.partial(torch.optim.SGD, momentum=0.9),
}
RECALLS = ("r@1", "r@5", "r@10", "r@1%")

Validate = Callable[[Embedder], dict[str, float]]


def build_optimizer(train: TrainConfig, modules: list[nn.Module]) -> torch.optim.Optimizer:
    """The optimiser of the trainable parameters: weight decay is L2 in the gradient, but decoupled with `adamw`."""
    if train.optimizer not in OPTIMIZERS:
        raise UsageError(f"unknown train.optimizer {train.optimizer!r}", mend="known: " + ", ".join(OPTIMIZERS))
    parameters = [one for module in modules for one in module.parameters() if one.requires_grad]
    if not parameters:
        raise UsageError("nothing to train: all parameters are frozen", mend="lower model.backbone_options.freeze")
    return OPTIMIZERS[train.optimizer](parameters, lr=train.learning_rate, weight_decay=train.weight_decay, fused=True)


@dataclass
class Trainer:
    """Trains one model into one run folder.

    Args:
        model: on its device; trained in place.
        config: the resolved configuration.
        batches: which pairs each epoch's batches hold.
        loader: gives their views.
        run: where state, metrics and checkpoints go.
        neighbours: makes the batches' tables of hard neighbours, None for batches at random.
        validate: recalls of the model on the validation split by name, None without one.
        details: plain values for the checkpoints' metadata.
        reporter: is told of progress.
        ranks: the processes that train it together; the first one writes and validates.
        start: the weights that training begins with, which `train.blend` blends in; None where it does not.
        save_seconds: how long after the last state another one is saved within an epoch; 0 saves after every batch.
    """

    model: Embedder
    config: Config
    batches: UniquePlaceBatches
    loader: PairLoader
    run: RunFolder
    neighbours: HardSampling | None = None
    validate: Validate | None = None
    details: dict[str, Any] = field(default_factory=dict)
    reporter: Reporter = field(default_factory=Reporter)
    ranks: Ranks = field(default_factory=Ranks)
    start: dict[str, torch.Tensor] | None = None
    save_seconds: float = 120.0

    def __post_init__(self) -> None:
        train = self.config.train
        self.device = next(self.model.parameters()).device
        # What the loss has of its own starts alike, whatever was drawn before.
        torch.manual_seed(train.seed)
        loss = build_loss(train.loss.name, train.loss.options, self.model.descriptor_size)
        self.loss: PairLoss = loss.to(self.device)
        if self.device.type == "cuda":
            # Pictures come so; half precision is fastest where weights are, too.
            self.model.to(memory_format=torch.channels_last)
        if train.checkpoint_activations:
            checkpoint_activations(self.model)
        self.compiled = train.compile and compile_model(self.model, self.reporter)
        facts = PairFacts(self.loader.dataset)
        self.gradients = BatchGradients(self.model, self.loss, self.config, facts, self.ranks)
        self.optimizer = build_optimizer(train, [self.model, self.loss])
        if train.precision not in PRECISIONS:
            raise UsageError(f"unknown train.precision {train.precision!r}", mend="known: " + ", ".join(PRECISIONS))
        self.progress = Progress()

    def fit(self, found: tuple[Progress, dict[str, Any]] | None = None) -> Progress:
        """Train until the last epoch is done, from the state `found` in the run's folder on if there is one.

        Raises CvgeoError where the loss is not finite any more, OutputError where a state cannot be written. SIGINT and
        SIGTERM take effect between two batches, after the state is saved.
        """
        if found is not None:
            self._resume(*found)
        self.ranks.share([*self.model.state_dict().values(), *self.loss.state_dict().values()])
        remark = batch_norm_remark(self.model.train(), self.config, self.ranks)
        if remark and self.progress.epoch < self.config.train.epochs:
            self.reporter.warn(remark)
        with DeferredStop(self.reporter) as self._stop:
            while self.progress.epoch < self.config.train.epochs:
                self._run_epoch()
                self._finish_epoch()
                self._leave_if_asked()
        return self.progress

    def _leave_if_asked(self) -> None:
        """Stop now if a signal was noted, in whatever process."""
        (asked,) = self.ranks.largest(self._stop.asked or 0)
        self._stop.asked = asked or None
        self._stop.leave()

    def _resume(self, progress: Progress, state: dict[str, Any]) -> None:
        self.progress = progress
        self.model.load_state_dict(state["model"])
        self.loss.load_state_dict(state["loss"])
        self.optimizer.load_state_dict(state["optimizer"])
        table = state.get("neighbours")
        self.batches.neighbours = None if table is None else table.numpy()
        if self.progress.batch == 0:
            self._publish()
        if self.progress.epoch < self.config.train.epochs:
            where = f"epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1}"
            self.reporter.note(f"{self.run.path}: goes on at {where}")

    def _run_epoch(self) -> None:
        progress, train = self.progress, self.config.train
        saved = moment = time.monotonic()
        self._find_neighbours()
        batches = self.batches.epoch(progress.epoch, SEMI_AERIAL in self.loss.needs_at(progress.epoch))
        remaining = [batch[self.ranks.part(len(batch))] for batch in batches[progress.batch :]]
        self.model.train()
        title = f"epoch {progress.epoch + 1}/{train.epochs}"
        for pairs in self.reporter.track(self._read(remaining), title, len(remaining)):
            self._step(pairs, len(batches), batches[0].shape[1])
            progress.batch += 1
            now = time.monotonic()
            progress.seconds, moment = progress.seconds + now - moment, now
            due = self.ranks.first and now - saved >= self.save_seconds
            if any(self.ranks.largest(due, self._stop.asked or 0)):
                self._save()
                self._leave_if_asked()
                saved = moment = time.monotonic()
        if progress.steps == 0:
            raise CvgeoError("no batch of the training split could be read", mend="see the reasons above")

    def _read(self, batches: list[np.ndarray]) -> Iterator[PairBatch]:
        # Beside a GPU the processor has time for it; where it computes itself there is nothing to gain.
        pairs = self.loader.pairs(batches)
        return read_ahead(pairs, self.device) if self.device.type == "cuda" else pairs

    def _find_neighbours(self) -> None:
        """Make the epoch's table of neighbours if a new one is due; within an epoch the saved state has it."""
        progress = self.progress
        if self.neighbours is None or progress.batch or not self.neighbours.due(progress.epoch):
            return
        self.model.eval()
        table = None
        if self.ranks.first:
            with as_written(self.compiled):
                table = torch.from_numpy(self.neighbours.table(self.model, progress.epoch))
        shape = (len(self.loader.dataset.panoramas), self.config.train.neighbour_pool)
        self.batches.neighbours = self.ranks.shared(table, shape, torch.int32).numpy()
        # The last state is that of the epoch's start: a stop that was asked for meanwhile loses only the table.
        self._leave_if_asked()

    def _step(self, pairs: PairBatch, batches: int, columns: int) -> None:
        train, progress = self.config.train, self.progress
        self.optimizer.zero_grad(set_to_none=True)
        done = self.gradients(pairs, progress.epoch, progress.batch, columns)
        if done is None:
            return
        value, count = done[0].item(), done[1]
        if not math.isfinite(value):
            raise self._diverged(f"the loss became {value} in")
        if train.clip_grad_norm > 0:
            nn.utils.clip_grad_norm_(self.optimizer.param_groups[0]["params"], train.clip_grad_norm)
        rate = learning_rate(train, progress.epoch + (progress.batch + 0.5) / batches)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.ranks.average_statistics(self.model)
        progress.loss_sum += value
        progress.steps += 1
        progress.pairs += count

    def _diverged(self, what: str) -> CvgeoError:
        where = f"epoch {self.progress.epoch + 1}, batch {self.progress.batch + 1}"
        kept = f"; the last good checkpoint is {self.run.last}" if self.run.last.exists() else ""
        mend = f"lower train.learning_rate or set train.clip_grad_norm{kept}"
        return CvgeoError(f"{what} {where}", path=self.run.path, mend=mend)

    def _save(self) -> None:
        if not all(torch.isfinite(tensor).all() for tensor in self.model.state_dict().values()):
            raise self._diverged("the weights became infinite before")
        if not self.ranks.first:
            return
        modules = {"model": self.model, "loss": self.loss, "optimizer": self.optimizer}
        state: dict[str, Any] = {name: one.state_dict() for name, one in modules.items()}
        table = self.batches.neighbours
        state["neighbours"] = None if table is None else torch.from_numpy(table)
        # Weights may have changed it (folded batch norm), and they are not loaded again.
        self.run.save_state(self.progress, {**state, "model_config": to_dict(self.model.config)})

    def _finish_epoch(self) -> None:
        progress, train = self.progress, self.config.train
        line: dict[str, Any] = {
            "epoch": progress.epoch + 1,
            "loss": progress.loss_sum / progress.steps,
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        every, last = train.validate_every, line["epoch"] == train.epochs
        validated = self.validate is not None and every > 0 and (last or line["epoch"] % every == 0)
        if validated:
            # Validation may take long: what the epoch has learned is safe before.
            self._save()
            self._leave_if_asked()
        line |= self._recalls(validated)
        line["seconds"] = round(progress.seconds, 3)
        line["pairs_per_second"] = round(progress.pairs / max(progress.seconds, 1e-9), 2)
        if validated or self.validate is None or every == 0:
            progress.best = better(progress.best, line)
        self.progress = Progress(progress.epoch + 1, metrics=[*progress.metrics, line], best=progress.best)
        self._save()
        self._publish()
        shown = ", ".join(f"{key} {line[key]:.4g}" for key in ("loss", *RECALLS) if line[key] is not None)
        self.reporter.note(f"epoch {line['epoch']}/{train.epochs}: {shown}")

    def _recalls(self, validated: bool) -> dict[str, float | None]:
        if not validated or self.validate is None:
            return dict.fromkeys(RECALLS)
        found = None
        if self.ranks.first:
            self.model.eval()
            with as_written(self.compiled), self._blended():
                recalls = self.validate(self.model)
            found = torch.tensor([recalls[name] for name in RECALLS], dtype=torch.float64)
        return dict(zip(RECALLS, self.ranks.shared(found, (len(RECALLS),), torch.float64).tolist(), strict=True))

    def _blended(self) -> AbstractContextManager[None]:
        return blended(self.model, self.start, self.config.train.blend)

    def _publish(self) -> None:
        """Write what others read, from the state at the end of an epoch."""
        progress = self.progress
        if not progress.metrics or not self.ranks.first:
            return
        line = progress.metrics[-1]
        # The best one first: whoever sees the line of an epoch finds its checkpoint.
        with self._blended():
            for path, wanted in ((self.run.best, progress.best == line), (self.run.last, True)):
                if wanted:
                    save_checkpoint(path, self.model, self.config, line, self.loss, epoch=line["epoch"], **self.details)
        self.run.write_metrics(progress)


def better(best: dict[str, Any] | None, line: dict[str, Any]) -> dict[str, Any]:
    """The better of two epochs' lines: higher validation r@1, then (or without one) lower loss, then the earlier."""
    if best is None:
        return line

    def merit(one: dict[str, Any]) -> tuple[float, float]:
        return (-1.0 if one["r@1"] is None else one["r@1"], -one["loss"])

    return line if merit(line) > merit(best) else best
