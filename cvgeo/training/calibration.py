"""The calibration of a checkpoint: a small JSON file beside it, by which scores become probabilities.

It holds for the weights it was fitted with, for headings known or unknown, and for fields of view as they were tried.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cvgeo.errors import InputError, MismatchError, UsageError, explain_os_error
from cvgeo.paths import write_text
from cvgeo.training.checkpoint import find_checkpoint

FORMAT = "cvgeo.calibration"
FORMAT_VERSION = 1
SUFFIX = ".calibration.json"


@dataclass(frozen=True)
class CalibrationEntry:
    """One fit, and on what it was made: see `cvgeo.retrieval.probability.Fit` for its three numbers."""

    hfov: float
    heading_known: bool
    sharpness: float
    none: float
    level: float
    none_share: float
    dataset: str
    split: str
    queries: int
    gallery: int


def calibration_path(reference: str | os.PathLike[str]) -> Path | None:
    """Where the calibration of a checkpoint or run folder lies; None for a preset."""
    checkpoint = find_checkpoint(reference)
    return None if checkpoint is None else checkpoint.with_name(checkpoint.name.removesuffix(".safetensors") + SUFFIX)


def require_checkpoint(reference: str | os.PathLike[str]) -> Path:
    """Where a calibration is to be written. Raises UsageError for a preset."""
    path = calibration_path(reference)
    if path is None:
        raise UsageError(f"{reference} is a preset: a calibration belongs to a checkpoint", mend="name a trained model")
    return path


def read_calibration(reference: str | os.PathLike[str], fingerprint: str) -> list[CalibrationEntry]:
    """The fits of a model, by field of view; empty where there are none.

    Raises InputError for a damaged file, MismatchError for one of other weights.
    """
    path = calibration_path(reference)
    if path is None or not path.exists():
        return []
    try:
        details = json.loads(path.read_text(encoding="utf-8"))
        names = {one.name for one in fields(CalibrationEntry)}
        if details["format"] != FORMAT or details["format_version"] != FORMAT_VERSION:
            raise MismatchError("is no calibration of this version of the program", path=path, mend="calibrate again")
        entries = [CalibrationEntry(**{name: one[name] for name in names}) for one in details["fits"]]
        _check(entries)
        written = details["fingerprint"]
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("damaged calibration", path=path, mend="calibrate again, or remove it") from error
    if written != fingerprint:
        mend = "calibrate again with cvgeo evaluate --calibrate, or remove it"
        raise MismatchError("was fitted with other weights than the checkpoint's", path=path, mend=mend)
    return sorted(entries, key=lambda one: one.hfov)


def _check(entries: Iterable[CalibrationEntry]) -> None:
    for one in entries:
        numbers = (one.hfov, one.sharpness, one.none, one.level)
        if not all(isinstance(value, int | float) and abs(value) < 1e9 for value in numbers):
            raise ValueError("numbers that are none")
        if not (0 < one.hfov <= 360 and one.sharpness > 0):
            raise ValueError("numbers out of range")


def write_calibration(reference: str | os.PathLike[str], fingerprint: str, entries: list[CalibrationEntry]) -> Path:
    """Write fits beside a checkpoint; those made before for the other knowledge of headings stay.

    Raises UsageError for a preset, OutputError where it cannot be written.
    """
    path = require_checkpoint(reference)
    fitted = {one.heading_known for one in entries}
    try:
        kept = [one for one in read_calibration(reference, fingerprint) if one.heading_known not in fitted]
    except (InputError, MismatchError):
        kept = []
    details: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, "fingerprint": fingerprint}
    details["fits"] = [asdict(one) for one in sorted([*kept, *entries], key=lambda one: (one.heading_known, one.hfov))]
    write_text(path, json.dumps(details, indent=1) + "\n")
    return path
