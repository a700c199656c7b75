"""`cvgeo train --pack`: the pack of a data set and a model's views, built where there is none yet."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.pack import Pack
from cvgeo.data.packing import PackPlan, build_pack
from cvgeo.data.schema import EVERY_SPLIT, Dataset, Pairs
from cvgeo.errors import MismatchError
from cvgeo.paths import cache_dir
from cvgeo.report import Reporter
from cvgeo.retrieval.lock import writer_lock
from cvgeo.training.run_folder import first_difference


def _of_splits(data: Dataset, splits: Sequence[str]) -> Dataset:
    def rows(names: list[str]) -> np.ndarray:
        return np.flatnonzero(np.isin(names, [*splits, EVERY_SPLIT]))

    panoramas, tiles = data.panoramas.take(rows(data.panoramas.split)), data.tiles.take(rows(data.tiles.split))
    return Dataset(data.name, data.root, panoramas, tiles, Pairs([], [], []), data.conventions)


def default_pack(plan: PackPlan) -> Path:
    """Where a pack lies unless told: in the user's cache folder, one for each data set and kind of views."""
    key = json.dumps([os.path.realpath(plan.data.root), plan.settings], sort_keys=True)
    return cache_dir() / "packs" / f"{plan.data.name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.h5"


def ready_pack(
    data: Dataset, splits: Sequence[str], view: ViewConfig, file: Path | None, jobs: int, reporter: Reporter
) -> Pack:
    """The pack of a data set's splits, built, or brought up to date with pictures that have changed, where need be.

    Raises MismatchError where `file` is the pack of another data set or of other views, InputError where it is no pack,
    OutputError where the disk is too small or another process is building it.
    """
    plan = PackPlan(_of_splits(data, splits), view)
    path = default_pack(plan) if file is None else file
    if path.exists():
        pack = _matching(path, plan)
        if pack.holds(plan.digests):
            return pack
        pack.close()
    with writer_lock(path):
        old = _matching(path, plan) if path.exists() else None
        if old is None or not old.holds(plan.digests):
            changed = "packed again, pictures or what the data set says of them have changed"
            reporter.note(f"{path}: {changed if old else 'packing the pictures'}")
            build_pack(path, plan, old, jobs, reporter)
        if old is not None:
            old.close()
    return Pack(path)


def _matching(path: Path, plan: PackPlan) -> Pack:
    pack = Pack(path)
    was = {"dataset": pack.dataset, **pack.settings}
    difference = first_difference(was, {"dataset": plan.data.name, **plan.settings})
    if difference:
        pack.close()
        mend = "name another one with --pack-file, or remove it"
        raise MismatchError(f"a pack of other views: {difference}", path=path, mend=mend)
    return pack
