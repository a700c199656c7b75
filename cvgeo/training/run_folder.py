"""A run's folder: settings, state, metrics and checkpoints, such that a run killed at any moment goes on exactly.

| file | holds |
|---|---|
| config.json | the settings and the data set that the run belongs to |
| state.pt | all that the run needs to go on: weights, optimiser, position, metrics so far |
| metrics.jsonl | one line an epoch |
| last.safetensors, best.safetensors | checkpoints of the last epoch and of the best one |

state.pt is the truth. The others are written after it from what it holds, and written again when a run goes on.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from cvgeo.config.schema import TrainConfig
from cvgeo.errors import InputError, MismatchError, explain_os_error
from cvgeo.paths import atomic_file, check_space, write_text
from cvgeo.training.checkpoint import BEST, LAST

SETTINGS = "config.json"
STATE = "state.pt"
METRICS = "metrics.jsonl"
STATE_FORMAT = 1
# Of `train`, that came after the first runs: at their defaults a run is what it was without them.
LATER_SETTINGS = ("cache_chunk", "checkpoint_activations", "compile", "deterministic")


@dataclass
class Progress:
    """Where a run stands: `epoch` and `batch` count what is done; the sums are of the epoch under way."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    steps: int = 0
    pairs: int = 0
    seconds: float = 0.0
    metrics: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None  # the line of the best epoch


def first_difference(old: Any, new: Any, key: str = "") -> str:
    """The first key, dotted, in which two trees of settings differ, with both values; empty where they agree."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            found = first_difference(old.get(name), new.get(name), f"{key}.{name}" if key else name)
            if found:
                return found
        return ""
    return "" if old == new else f"{key} was {_short(old)} and is now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:16]}...{text[-1]}"


class RunFolder:
    """The files of one run. Only one process may use a folder at a time: the caller holds its lock."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.best, self.last = self.path / BEST, self.path / LAST

    def open(self, settings: dict[str, Any], overwrite: bool) -> None:
        """Start or go on with these settings (JSON-ready).

        Raises MismatchError naming the first difference where a run with others has been saved, InputError where the
        folder holds something else, OutputError where the system refuses. `overwrite` removes the run that is there.
        """
        settings = json.loads(json.dumps(settings))
        if overwrite:
            self._remove()
        self._clean()
        if (self.path / SETTINGS).exists():
            self._compare(settings)
            return
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError("is there already and holds no run", path=self.path, mend="name another place with -o")
        write_text(self.path / SETTINGS, _text(settings))

    def _begun(self) -> bool:
        return any((self.path / name).exists() for name in (STATE, METRICS, BEST, LAST))

    def forget(self) -> None:
        """Leave nothing behind of a run that failed before it saved anything."""
        if self._begun():
            return
        with suppress(OSError):
            (self.path / SETTINGS).unlink(missing_ok=True)
            self.path.rmdir()

    def _compare(self, settings: dict[str, Any]) -> None:
        path = self.path / SETTINGS
        try:
            old = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        except ValueError as error:
            raise InputError("is damaged", path=path, mend="--overwrite starts the run again") from error
        difference = first_difference(_up_to_date(old), _up_to_date(settings))
        if difference and not self._begun():
            # A call that failed before it learned anything is no reason to refuse the corrected one.
            write_text(path, _text(settings))
        elif difference:
            mend = "--overwrite starts it again, -o names another run"
            raise MismatchError(f"a run with other settings: {difference}", path=self.path, mend=mend)

    def _remove(self) -> None:
        # The settings go last: a folder without them would not be known as a run any more.
        for name in (STATE, METRICS, BEST, LAST, SETTINGS):
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise explain_os_error(error, self.path / name) from error

    def _clean(self) -> None:
        # What a killed process had begun to write; nobody else writes here while the lock is held.
        for leftover in self.path.glob(".*.part") if self.path.is_dir() else ():
            leftover.unlink(missing_ok=True)

    def check_space(self, parameters: int) -> str | None:
        """What to warn of where the disk has too little room for the states and checkpoints of so many parameters.

        A state holds weights and two moments of each, and is written whole before it takes the old one's place. Raises
        OutputError where not even one has room.
        """
        state, checkpoints = 3 * 4 * parameters, 2 * 4 * parameters
        return check_space(self.path, "a run", 2 * state + checkpoints, state, "name another folder with --output")

    def save_state(self, progress: Progress, tensors: dict[str, Any]) -> None:
        """Write the state: progress and `tensors` (state dicts), together or not at all."""
        state = {"format": STATE_FORMAT, "progress": asdict(progress), **tensors}
        # By way of memory: torch's own error for a full disk is no OSError.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_file(self.path / STATE) as temporary:
            temporary.write_bytes(content.getbuffer())

    def load_state(self) -> tuple[Progress, dict[str, Any]] | None:
        """Progress and tensors of the last complete state, None where there is none yet."""
        path = self.path / STATE
        if not path.exists():
            return None
        mend = "--overwrite starts the run again"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            kind = state.pop("format")
            progress = Progress(**state.pop("progress"))
        except (RuntimeError, pickle.UnpicklingError, EOFError, LookupError, ValueError, TypeError) as error:
            raise InputError("damaged state of a training run", path=path, mend=mend) from error
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        if kind != STATE_FORMAT:
            fault = f"state of format {kind}, this program reads format {STATE_FORMAT}"
            raise MismatchError(fault, path=path, mend=mend)
        return progress, state

    def is_published(self, progress: Progress) -> bool:
        """Whether checkpoints and metrics are those of this progress: the metrics are written last."""
        try:
            text = (self.path / METRICS).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return False
        return text == _lines(progress) and self.best.exists() and self.last.exists()

    def write_metrics(self, progress: Progress) -> None:
        """Write all lines of metrics anew, so that none is lost or doubled."""
        write_text(self.path / METRICS, _lines(progress))


def _up_to_date(settings: Any) -> Any:
    """Settings of a run with the defaults of those that came after it, which change nothing of what it does."""
    config = settings.get("config") if isinstance(settings, dict) else None
    given = config.get("train") if isinstance(config, dict) else None
    if not isinstance(given, dict):
        return settings
    later = {name: getattr(TrainConfig(), name) for name in LATER_SETTINGS}
    return {**settings, "config": {**config, "train": {**later, **given}}}


def _text(settings: dict[str, Any]) -> str:
    return json.dumps(settings, indent=2) + "\n"


def _lines(progress: Progress) -> str:
    return "".join(json.dumps(line) + "\n" for line in progress.metrics)
