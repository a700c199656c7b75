"""Panoramas with their places: which pictures are named, and what EXIF, GPano and a table of positions say of them."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvgeo.data.ground import check_cube, is_face
from cvgeo.data.images import list_images
from cvgeo.data.sources import exports
from cvgeo.data.sources.geotags import Geotag, StatedPose, check_position, read_geotag
from cvgeo.data.tables import CsvTable
from cvgeo.errors import InputError
from cvgeo.geometry.projections import CUBE, PERSPECTIVE, PROJECTIONS
from cvgeo.geometry.shapes import GeometryError

RANGES: dict[str, tuple[float, float]] = {
    "lat": (-90, 90),
    "lon": (-180, 180),
    "hfov": (0, 360),
    "vfov_top": (-90, 90),
    "vfov_bottom": (-90, 90),
    "pitch": (-90, 90),
    "roll": (-180, 180),
    "heading": (-math.inf, math.inf),
    "column0_heading": (-math.inf, math.inf),
}


class Unlocated(InputError):
    """A picture of which no position is known."""


@dataclass
class Place:
    """A panorama's id, its file, and where and how it was taken."""

    id: str
    path: Path
    tag: Geotag


def find_panoramas(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """The pictures that are named: files as they are, of folders all pictures below. Raises InputError for none."""
    found: list[Path] = []
    for path in map(Path, paths):
        inside = list_images(path) if path.is_dir() else []
        if path.is_dir() and not inside:
            raise InputError("no picture in this folder", path=path, mend="name a folder with panoramas")
        found += inside or [path]
    return list(dict.fromkeys(found))


class Positions:
    """Where and how pictures were taken, by a table: one row a picture.

    Args:
        path: of the table; `files` are the pictures as it names them.
        numbers: columns (N,) of `lat`, `lon`, and as far as known `heading` (of the centre column), `column0_heading`,
            `hfov`, `vfov_top`, `vfov_bottom`, `pitch`, `roll`, and `focal` (focal length by the picture's longer side).
        projections: names of projections, empty where unknown.
        faults: the errors of rows with values that cannot be.
        ids: other names of the pictures, by which files of such a stem are found.
    """

    def __init__(
        self,
        path: Path,
        files: list[Path],
        numbers: dict[str, np.ndarray],
        projections: list[str],
        faults: dict[int, InputError],
        ids: Sequence[str] = (),
    ):
        self.path, self.files, self.faults, self._exported = path, files, faults, bool(ids)
        self._numbers, self._projections = numbers, projections
        self._row_of_path = {os.path.abspath(file): row for row, file in enumerate(files)}
        self._row_of_name, self._row_of_id = _only_once([file.name for file in files]), _only_once(list(ids))

    def present(self) -> list[Path]:
        """The pictures to take where none are named: all of a table, those that are there of an export.

        Raises InputError where there is none.
        """
        if not self.files:
            raise InputError("names no picture", path=self.path, mend="write a line for each")
        there = [file for file in self.files if not self._exported or file.is_file()]
        if not there:
            mend = "put them beside it, named by their id, or name their folder"
            raise InputError("none of its pictures lie in its folder", path=self.path, mend=mend)
        return there

    def row(self, path: Path) -> int | None:
        """The line's number for a picture, None where the table does not name it."""
        rows = (self._row_of_path, os.path.abspath(path)), (self._row_of_name, path.name), (self._row_of_id, path.stem)
        return next((known[key] for known, key in rows if key in known), None)

    def apply(self, tag: Geotag, row: int) -> None:
        """Write a line's values over what the picture itself says. Raises the line's InputError."""
        if row in self.faults:
            raise self.faults[row]
        values = {name: float(column[row]) for name, column in self._numbers.items()}
        known = {name: value for name, value in values.items() if not math.isnan(value)}
        if "focal" in known:
            longer = max(tag.width, tag.height)
            known.setdefault("hfov", 2 * math.degrees(math.atan(tag.width / longer / 2 / known["focal"])))
        StatedPose(self._projections[row], hfov=known.get("hfov", math.nan)).apply(tag)
        for name in ("lat", "lon", "vfov_top", "vfov_bottom", "pitch", "roll", "column0_heading"):
            setattr(tag, name, known.get(name, getattr(tag, name)))
        if "heading" in known:
            tag.look(known["heading"])


def _only_once(names: list[str]) -> dict[str, int]:
    once = {name for name, count in zip(*np.unique(names, return_counts=True), strict=True) if count == 1}
    return {name: row for row, name in enumerate(names) if name in once}


def read_positions(path: str | os.PathLike[str]) -> Positions:
    """The table of positions in a file: CSV, or an export of Mapillary or Panoramax (see `exports`).

    CSV has the columns `file` (or `path`), relative to the table, `lat`, `lon`, and as far as known those of Positions;
    files are also found by their name alone where that is unique. Raises InputError for a file that cannot be read.
    """
    path = Path(path)
    if exports.is_json(path):
        return _exported(path, exports.read_json(path))
    table = CsvTable(path)
    if exports.is_mapillary_table(table):
        return _exported(path, exports.read_table(table))
    return _positions_of_csv(table)


def _positions_of_csv(table: CsvTable) -> Positions:
    column = "path" if "path" in table and "file" not in table else "file"
    table.require(column, "lat", "lon")
    files = table.files(column, table.path.parent)
    faults: dict[int, InputError] = {}
    numbers = {
        name: table.numbers(name, low, high, required=name in ("lat", "lon"), faults=faults)
        for name, (low, high) in RANGES.items()
    }
    projections = table.text("projection", default="")
    for row, (lat, lon) in enumerate(zip(numbers["lat"], numbers["lon"], strict=True)):
        try:
            check_position(lat, lon)
        except ValueError as error:
            faults.setdefault(row, table.fault(row, str(error)))
        if projections[row] and projections[row] not in PROJECTIONS:
            fault = f"projection {projections[row]!r} is unknown"
            faults.setdefault(row, table.fault(row, fault, mend="known: " + ", ".join(PROJECTIONS)))
    _refuse_contradictions(table, files, numbers, faults)
    return Positions(table.path, files, numbers, projections, faults)


def _refuse_contradictions(
    table: CsvTable, files: list[Path], numbers: dict[str, np.ndarray], faults: dict[int, InputError]
) -> None:
    """Put a fault where a line says otherwise of a picture than one before; which of them is right is not known."""
    first: dict[Path, int] = {}
    for row, file in enumerate(files):
        before = first.setdefault(file, row)
        if any(not np.array_equal(one[row], one[before], equal_nan=True) for one in numbers.values()):
            fault = f"the same picture has other values in line {table.lines[before]}"
            faults.setdefault(row, table.fault(row, fault, mend="keep one of them"))


def _exported(path: Path, entries: list[exports.Entry]) -> Positions:
    numbers = {name: np.array([entry.numbers.get(name, math.nan) for entry in entries]) for name in (*RANGES, "focal")}
    faults = {row: entry.error for row, entry in enumerate(entries) if entry.error is not None}
    for row, entry in enumerate(entries):
        try:
            check_position(entry.numbers.get("lat", math.nan), entry.numbers.get("lon", math.nan))
        except ValueError as error:
            faults.setdefault(row, InputError(f"picture {entry.id}: {error}", path=path))
    files = exports.files_beside(path, entries)
    projections, ids = [entry.projection for entry in entries], [entry.id for entry in entries]
    return Positions(path, files, numbers, projections, faults, ids)


def unique_ids(paths: Sequence[Path]) -> list[str]:
    """An id for each picture: its name without suffix, with a number where that is taken.

    Ids are UTF-8 and have no blanks around them, whatever a file is called.
    """
    taken: set[str] = set()
    ids = []
    for path in paths:
        stem = path.stem.encode("utf-8", "replace").decode().strip() or "_"
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        ids.append(name)
    return ids


def read_place(name: str, path: Path, positions: Positions | None, stated: StatedPose | None = None) -> Place:
    """A picture's place, by the table where it names the picture, else by EXIF and XMP; `stated` counts more.

    Raises Unlocated where no position is known, InputError where the picture is damaged or its pose cannot be.
    """
    row = None if positions is None else positions.row(path)
    stated = stated or StatedPose()
    tag = read_geotag(path, declination=stated.declination, position=row is None)
    if positions is not None and row is not None:
        positions.apply(tag, row)
    stated.apply(tag)
    if recognise_cube(tag, path):
        tag.notes.append("six square files whose names say so are taken as a cube map")
    if not tag.located:
        raise Unlocated("no position in its EXIF or XMP", path=path, mend="give one with --positions")
    check_pose(tag, path)
    return Place(name, path, tag)


def recognise_cube(tag: Geotag, path: Path) -> bool:
    """Take a picture of unknown projection for a cube map where its five other faces lie beside it; whether so."""
    found = not tag.projection and is_face(path)
    if found:
        tag.project(CUBE)
    return found


def check_pose(tag: Geotag, path: Path) -> None:
    """Raise InputError for a projection, field of view or tilt that cannot be, or a cube map that lacks faces."""
    try:
        if tag.projection != PERSPECTIVE or not math.isnan(tag.hfov):
            tag.camera().settled(tag.height, tag.width)
    except GeometryError as error:
        error.path = str(path)
        raise
    if tag.projection == CUBE:
        check_cube(path, tag.height, tag.width)
