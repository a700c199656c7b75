"""Learning rates as a function of time alone: nothing to save, nothing to restore."""

from __future__ import annotations

import math

from cvgeo.config.schema import TrainConfig
from cvgeo.errors import UsageError

SCHEDULES = ("steps", "cosine", "linear", "exponential", "constant")


def learning_rate(train: TrainConfig, epoch: float) -> float:
    """The learning rate at a moment, in epochs from the start (2.5: the middle of the third).

    `steps`: `milestones` name the epoch from which on a rate holds. `cosine`: half a cosine from `learning_rate` down
    to 0 at the end. `linear`: a straight line to 0. `exponential`: to a tenth in `decay_epochs` after the warm-up. All
    rise linearly from 0 during the first `warmup_epochs`.
    """
    if epoch < train.warmup_epochs:
        return train.learning_rate * epoch / train.warmup_epochs
    if train.schedule == "steps":
        reached = [(float(start), rate) for start, rate in train.milestones.items() if epoch >= float(start)]
        return max(reached)[1] if reached else train.learning_rate
    since = epoch - train.warmup_epochs
    share = min(since / max(train.epochs - train.warmup_epochs, 1e-9), 1.0)
    if train.schedule == "cosine":
        return train.learning_rate * (1 + math.cos(math.pi * share)) / 2
    if train.schedule == "linear":
        return train.learning_rate * (1 - share)
    if train.schedule == "exponential":
        return train.learning_rate * 0.1 ** (since / train.decay_epochs)
    return train.learning_rate


def check_schedule(train: TrainConfig) -> None:
    """Raise UsageError for a schedule that is unknown or whose milestones are not epochs and learning rates."""
    if train.schedule not in SCHEDULES:
        raise UsageError(f"unknown train.schedule {train.schedule!r}", mend="known: " + ", ".join(SCHEDULES))
    if train.schedule == "exponential" and not train.decay_epochs > 0:
        fault = f"train.decay_epochs = {train.decay_epochs:g}: the exponential schedule needs its time"
        raise UsageError(fault, mend="set it above 0")
    for start, rate in train.milestones.items():
        try:
            valid = float(start) >= 0 and float(rate) >= 0
        except (TypeError, ValueError):
            valid = False
        if not valid:
            fault = f"train.milestones: {start!r} = {rate!r} is not an epoch and a learning rate"
            raise UsageError(fault, mend='for example {"30": 1e-6}')
