"""Pictures that a data set names but that are not there, found with one look at each folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError
from cvgeo.report import Reporter

SHOWN = 3


def is_there(paths: Sequence[Path]) -> np.ndarray:
    """Which pictures are there, (N,) bool: each folder is listed once, no picture is asked for alone."""
    listed: dict[str, set[str]] = {}
    found = np.zeros(len(paths), dtype=bool)
    for row, path in enumerate(map(os.fspath, paths)):
        folder, _, name = path.rpartition(os.sep)
        if folder not in listed:
            try:
                listed[folder] = set(os.listdir(folder or "."))
            except OSError:
                listed[folder] = set()
        found[row] = name in listed[folder]
    return found


def missing_pictures(data: Dataset) -> list[Path]:
    """The pictures that a data set names but that are not there."""
    paths = [*data.panoramas.path, *data.tiles.path]
    return [path for path, there in zip(paths, is_there(paths), strict=True) if not there]


def told_missing(data: Dataset, missing: Sequence[Path], count: int | None = None) -> str:
    """`3 of 40 pictures are missing: a.jpg, b.jpg, c.jpg`, of `count` pictures (all of the data set's by default)."""
    count = len(data.panoramas) + len(data.tiles) if count is None else count
    names = ", ".join(os.path.relpath(path, data.root) for path in missing[:SHOWN])
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return f"{len(missing)} of {count} pictures are missing: {names}{more}"


def without_missing(
    data: Dataset, skip: bool, reporter: Reporter, views: Sequence[str] = ("ground", "aerial")
) -> Dataset:
    """The data set if all its pictures are there; with `skip` what is left of it without those that are missing.

    Where the tiles are cut around the panoramas, what is skipped of a pair is the pair: a tile without its panorama is
    no part of the gallery. Raises InputError that counts and names the missing ones, unless they are to be skipped.
    """
    there = {
        kind: is_there(table.path) if kind in views else np.ones(len(table), dtype=bool)
        for kind, table in (("ground", data.panoramas), ("aerial", data.tiles))
    }
    missing = [
        path
        for kind, table in (("ground", data.panoramas), ("aerial", data.tiles))
        for path, found in zip(table.path, there[kind], strict=True)
        if not found
    ]
    if not missing:
        return data
    count = sum(len(table) for kind, table in (("ground", data.panoramas), ("aerial", data.tiles)) if kind in views)
    if not skip or len(missing) == count:
        raise _fault(data, missing, count)
    reporter.warn(f"{data.name}: {len(missing)} of {count} pictures are missing and skipped")
    return _left(data, there["ground"], there["aerial"])


def _fault(data: Dataset, missing: list[Path], count: int) -> InputError:
    mend = "fetch them" if len(missing) == count else "fetch them, or leave them out with --skip-missing"
    return InputError(told_missing(data, missing, count), path=data.root, mend=mend)


def _left(data: Dataset, ground: np.ndarray, aerial: np.ndarray) -> Dataset:
    if data.conventions.aligned:
        pairs = data.pairs
        lost = ~(ground[pairs.panorama] & aerial[pairs.tile])
        whole = np.bincount(pairs.tile[~lost], minlength=len(data.tiles)) > 0
        paired = np.bincount(pairs.tile, minlength=len(data.tiles)) > 0
        aerial = aerial & (whole | ~paired)
    return data.select(np.flatnonzero(ground), np.flatnonzero(aerial))
