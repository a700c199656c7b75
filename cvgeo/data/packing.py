"""Building a pack: resumed where it was killed, taken over from the pack before where a picture is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.data.loader import item_batches
from cvgeo.data.pack import (
    BROKEN,
    EMPTY,
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    MASKED,
    REASON_BYTES,
    SEEN,
    Pack,
    PackTable,
    columns_of,
    fingerprint_of,
    image_shape,
    pack_bytes,
    pack_settings,
    row_digests,
    view_checksum,
)
from cvgeo.data.schema import Dataset
from cvgeo.data.views import AerialViews, GroundViews
from cvgeo.errors import CvgeoError, InputError, explain_os_error
from cvgeo.paths import atomic_file, check_space, move_into_place
from cvgeo.report import Reporter

TOGETHER = 8
FLUSH_BYTES = 64 << 20  # of views that a kill can cost


@dataclass
class PackPlan:
    """What a pack is to hold: all pictures of a data set as the two branches of a model see them."""

    data: Dataset
    view: ViewConfig

    def __post_init__(self) -> None:
        self.settings: dict[str, Any] = pack_settings(self.view, self.data.conventions)
        tables = {"ground": self.data.panoramas, "aerial": self.data.tiles}
        self.digests = {kind: row_digests(table, self.data.root) for kind, table in tables.items()}
        self.fingerprint = fingerprint_of(self.settings, self.digests)

    @property
    def size(self) -> int:
        """Bytes of the pack."""
        return pack_bytes(self.view, {kind: len(one) for kind, one in self.digests.items()})

    def views(self, kind: str, rows: np.ndarray) -> GroundViews | AerialViews:
        """The views of some rows, decoded when they are asked for."""
        if kind == "ground":
            return GroundViews(self.data.panoramas, self.view, self.data.conventions, rows)
        return AerialViews(self.data.tiles, self.view, rows)


def unfinished(path: Path) -> Path:
    """Where a pack lies while it is built."""
    return path.with_name(f".{path.name}.building")


def _lay_out(path: Path, plan: PackPlan) -> None:
    with atomic_file(path) as temporary, h5py.File(temporary, "w") as file:
        name = plan.data.name.encode("utf-8", "surrogateescape")
        file.attrs.create("dataset", name, dtype=h5py.string_dtype("utf-8"))
        file.attrs.update(format=FORMAT, format_version=FORMAT_VERSION)
        file.attrs.update(fingerprint=plan.fingerprint, settings=json.dumps(plan.settings))
        for kind in KINDS:
            digests = plan.digests[kind]
            for name, (shape, dtype) in columns_of(len(digests), image_shape(plan.view, kind), kind).items():
                # Given its place at once, and nothing written to it: holes read as zeros, and status 0 is EMPTY.
                creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
                creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
                creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
                space = h5py.h5s.create_simple(shape)
                group = file.require_group(kind)
                h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(np.dtype(dtype)), space, creation)
            if len(digests):
                file[kind]["digest"][:] = digests


def _continued(path: Path, plan: PackPlan) -> Pack | None:
    """The pack that a killed call of the same plan was building."""
    try:
        pack = Pack(path, writable=True)
    except CvgeoError:
        return None
    if pack.fingerprint == plan.fingerprint:
        return pack
    pack.close()
    return None


def _check_space(path: Path, plan: PackPlan) -> None:
    begun = unfinished(path)
    have = begun.stat().st_blocks * 512 if begun.exists() else 0
    wanted = plan.size - have
    check_space(path, "a pack", wanted, wanted, "name another place with --pack-file")


def build_pack(path: Path, plan: PackPlan, old: Pack | None, jobs: int, reporter: Reporter) -> None:
    """Build the pack of a plan; the caller holds the lock of `path`.

    `path` appears whole, at the end, in place of `old`, whose rows are taken over where their pictures are as they
    were. A killed call leaves what it has done beside `path`, and the next one of the same plan goes on with it. Memory
    is that of a few views. Raises OutputError where the disk is too small (before anything is decoded) or fails.
    """
    building = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pack = _continued(building, plan)
        if pack is None:
            building.unlink(missing_ok=True)
        _check_space(path, plan)
        if pack is None:
            _lay_out(building, plan)
            pack = Pack(building, writable=True)
        with pack:
            for kind in KINDS:
                _fill(pack, kind, plan, old, jobs, reporter)
            pack.sync()
        move_into_place(building, path)
    except OSError as error:
        raise explain_os_error(error, path) from error


class _Filler:
    """Writes rows, and says that they are there only once they are on the disk."""

    def __init__(self, pack: Pack, table: PackTable):
        self.pack, self.table = pack, table
        self._waiting: list[tuple[int, int]] = []
        self._bytes = 0

    def add(self, row: int, item: tuple[np.ndarray, np.ndarray | None] | CvgeoError) -> None:
        """One row: an image and its packed mask (None where all is seen), or why there is none."""
        if isinstance(item, CvgeoError):
            self._add_reason(row, item)
            return
        image, bits = item
        self.table.write("images", row, image)
        if bits is not None:
            self.table.write("masks", row, bits)
        self.table.write("checksum", row, np.array(view_checksum(image, bits), np.uint32))
        self._later(row, SEEN if bits is None else MASKED, image.nbytes)

    def _add_reason(self, row: int, error: CvgeoError) -> None:
        text = error.fault if error.mend is None else f"{error.fault}; {error.mend}"
        content = np.frombuffer(
            text.encode("utf-8", "surrogateescape")[:REASON_BYTES].ljust(REASON_BYTES, b"\0"), np.uint8
        )
        self.table.write("reason", row, content)
        self._later(row, BROKEN, REASON_BYTES)

    def _later(self, row: int, status: int, size: int) -> None:
        self._waiting.append((row, status))
        self._bytes += size
        if self._bytes >= FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Have the rows on the disk, then their status."""
        self.pack.sync()
        for row, status in self._waiting:
            self.table.write("status", row, np.array(status, np.uint8))
        self._waiting, self._bytes = [], 0


def _fill(pack: Pack, kind: str, plan: PackPlan, old: Pack | None, jobs: int, reporter: Reporter) -> None:
    table = pack.tables[kind]
    filler = _Filler(pack, table)
    missing = np.flatnonzero(table.status == EMPTY)
    if old is not None:
        missing = _take_over(old.tables[kind], table, missing, filler)
    items = _decoded(plan.views(kind, missing), jobs)
    what = "pack panoramas" if kind == "ground" else "pack tiles"
    for row, item in zip(missing.tolist(), reporter.track(items, what, len(missing)), strict=True):
        filler.add(row, item)
    filler.flush()


def _decoded(
    views: GroundViews | AerialViews, jobs: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None] | CvgeoError]:
    for items in item_batches(views, TOGETHER, jobs):
        for item in items:
            if isinstance(item, CvgeoError):
                yield item
            else:
                image, mask = item
                yield image, None if mask.all() else np.packbits(mask, axis=1)


def _take_over(old: PackTable, new: PackTable, missing: np.ndarray, filler: _Filler) -> np.ndarray:
    """Copy the rows that an older pack has; returns those that it has not."""
    if old.shape != new.shape:
        return missing
    left = []
    for row in missing.tolist():
        item = _as_before(old, old.row_of(new.digest[row]))
        if item is None:
            left.append(row)
        else:
            filler.add(row, item)
    return np.array(left, dtype=np.int64)


def _as_before(old: PackTable, row: int) -> tuple[np.ndarray, np.ndarray | None] | CvgeoError | None:
    if row < 0:
        return None
    if old.status[row] == BROKEN:
        return InputError(old.reason(row))
    image = np.empty(old.shape, np.uint8)
    try:
        return image, old.read(row, image)
    except InputError:
        return None  # damaged: decoded anew
