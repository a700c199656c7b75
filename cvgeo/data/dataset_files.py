"""The project's own data set folder: `dataset.toml`, `panoramas.csv`, `tiles.csv`, `pairs.csv`.

Paths in the tables are relative to the folder where the picture lies in it. Empty fields stand for `unknown`.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.config.toml import to_toml
from cvgeo.data.schema import ROLES, Conventions, Dataset, Pairs, Panoramas, Tiles
from cvgeo.data.tables import CsvTable, write_csv
from cvgeo.errors import InputError, explain_os_error
from cvgeo.geometry.projections import PROJECTIONS
from cvgeo.paths import atomic_file, write_text

FORMAT = "cvgeo.dataset"
FORMAT_VERSION = 1
DESCRIPTION = "dataset.toml"
FITS = ("place", "stretch")
# Columns that are left out where they say nothing in any row.
OPTIONAL = frozenset({"source", "projection", "pitch", "roll"})


def _relative(paths: list[Path], folder: Path) -> list[str]:
    home = os.path.abspath(folder) + os.sep

    def relative(path: Path) -> str:
        absolute = os.path.abspath(path)
        if absolute.startswith(home):
            return absolute[len(home) :]
        return os.fspath(path) if not path.is_absolute() and (folder / path).exists() else absolute

    return [relative(Path(path)) for path in paths]


def _describe(dataset: Dataset) -> str:
    conventions = dataset.conventions
    return to_toml(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "name": dataset.name,
            "attribution": dataset.attribution or None,
            "conventions": {
                "fit": conventions.fit,
                "ground_rows": conventions.ground_rows,
                "aligned": conventions.aligned,
            },
            "provenance": dataset.provenance,
        }
    )


def write_dataset(dataset: Dataset, folder: str | os.PathLike[str]) -> Path:
    """Write a data set's tables and description into a folder; returns the path of `dataset.toml`, written last.

    Pictures are not touched. Those in the folder are named relative to it, others by their absolute paths. Raises
    OutputError where the system refuses.
    """
    folder = Path(folder)
    for name, table in (("panoramas", dataset.panoramas), ("tiles", dataset.tiles)):
        columns = {column: getattr(table, column) for column in table.__dataclass_fields__}
        columns["path"] = _relative(table.path, folder)
        for column in OPTIONAL & set(columns):
            values = columns[column]
            if not (np.nan_to_num(values).any() if isinstance(values, np.ndarray) else any(values)):
                del columns[column]
        _write_table(folder / f"{name}.csv", columns)
    pairs = dataset.pairs
    columns = {
        "panorama": [dataset.panoramas.id[row] for row in pairs.panorama],
        "tile": [dataset.tiles.id[row] for row in pairs.tile],
        "role": [ROLES[role] for role in pairs.role],
        "offset_north_m": pairs.offset_north_m,
        "offset_east_m": pairs.offset_east_m,
    }
    _write_table(folder / "pairs.csv", columns)
    write_text(folder / DESCRIPTION, _describe(dataset))
    return folder / DESCRIPTION


def _write_table(path: Path, columns: dict[str, Any]) -> None:
    with atomic_file(path) as temporary:
        write_csv(temporary, columns)


def read_description(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """The keys of a folder's `dataset.toml`. Raises InputError where it is missing, damaged or of a later format."""
    path = Path(folder) / DESCRIPTION
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is not a well-formed TOML file: {error}", path=path) from error
    if values.get("format") != FORMAT:
        raise InputError(f'is not a description of a data set: format = "{FORMAT}" is missing', path=path)
    if values.get("format_version") != FORMAT_VERSION:
        found = values.get("format_version")
        raise InputError(f"format_version {found}, this program reads {FORMAT_VERSION}", path=path, mend="update cvgeo")
    return values


def _conventions(values: dict[str, Any], path: Path) -> Conventions:
    fit, rows, aligned = values.get("fit", "place"), values.get("ground_rows"), values.get("aligned")
    if fit not in FITS:
        raise InputError(f"conventions.fit {fit!r} is unknown", path=path, mend="known: " + ", ".join(FITS))
    if aligned is not None and not isinstance(aligned, bool):
        raise InputError("conventions.aligned is neither true nor false", path=path)
    if rows is not None:
        whole = isinstance(rows, list) and len(rows) == 3 and all(type(row) is int for row in rows)
        if not whole or not 0 <= rows[0] < rows[1] <= rows[2]:
            raise InputError("conventions.ground_rows is not [top, bottom, of] in pixels", path=path)
    return Conventions(fit, tuple(rows) if rows else None, aligned)


def _panoramas(folder: Path) -> Panoramas:
    table = CsvTable(folder / "panoramas.csv")
    ids = table.ids()
    return Panoramas(
        ids,
        table.files("path", folder),
        lat=table.numbers("lat", -90, 90),
        lon=table.numbers("lon", -180, 180),
        column0_heading=table.numbers("column0_heading"),
        hfov=table.numbers("hfov", 0, 360),
        vfov_top=table.numbers("vfov_top", -90, 90),
        vfov_bottom=table.numbers("vfov_bottom", -90, 90),
        split=table.text("split"),
        source=table.text("source", default=""),
        projection=_projections(table),
        pitch=table.numbers("pitch", -90, 90),
        roll=table.numbers("roll", -180, 180),
    )


def _projections(table: CsvTable) -> list[str]:
    names = table.text("projection", default="")
    for row, name in enumerate(names):
        if name and name not in PROJECTIONS:
            raise table.fault(row, f"projection {name!r} is unknown", mend="known: " + ", ".join(PROJECTIONS))
    return names


def _tiles(folder: Path) -> Tiles:
    table = CsvTable(folder / "tiles.csv")
    ids = table.ids()
    return Tiles(
        ids,
        table.files("path", folder),
        lat=table.numbers("lat", -90, 90),
        lon=table.numbers("lon", -180, 180),
        gsd_m=table.numbers("gsd_m", 0),
        split=table.text("split"),
        source=table.text("source", default=""),
    )


def _rows_of(table: CsvTable, column: str, known: list[str], where: str) -> np.ndarray:
    row_of = {one: row for row, one in enumerate(known)}
    wanted = table.text(column, required=True)
    try:
        return np.array([row_of[one] for one in wanted], dtype=np.int64)
    except KeyError:
        row = next(row for row, one in enumerate(wanted) if one not in row_of)
        raise table.fault(row, f"{column} {wanted[row]!r} is not in {where}") from None


def _pairs(folder: Path, panoramas: Panoramas, tiles: Tiles) -> Pairs:
    table = CsvTable(folder / "pairs.csv")
    table.require("panorama", "tile", "role")
    roles = table.text("role")
    for row, role in enumerate(roles):
        if role not in ROLES:
            raise table.fault(row, f"role {role!r} is unknown", mend="known: " + ", ".join(ROLES))
    return Pairs(
        _rows_of(table, "panorama", panoramas.id, "panoramas.csv"),
        _rows_of(table, "tile", tiles.id, "tiles.csv"),
        np.array([ROLES.index(role) for role in roles], dtype=np.int8),
        table.numbers("offset_north_m"),
        table.numbers("offset_east_m"),
    )


def read_dataset(folder: str | os.PathLike[str]) -> Dataset:
    """Read a data set folder that `write_dataset` made, or one written by hand in the same layout.

    Only `dataset.toml` and the table of tiles are needed: a folder without `panoramas.csv` and `pairs.csv` is a
    gallery. Raises InputError naming file and line for what is wrong.
    """
    folder = Path(folder)
    values = read_description(folder)
    tiles = _tiles(folder)
    gallery = not (folder / "panoramas.csv").exists() and not (folder / "pairs.csv").exists()
    panoramas = Panoramas([], []) if gallery else _panoramas(folder)
    pairs = Pairs([], [], []) if gallery else _pairs(folder, panoramas, tiles)
    return Dataset(
        str(values.get("name") or folder.resolve().name),
        folder,
        panoramas,
        tiles,
        pairs,
        _conventions(values.get("conventions", {}), folder / DESCRIPTION),
        values.get("provenance", {}),
        str(values.get("attribution", "")),
    )
