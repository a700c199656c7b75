"""MBTiles: a pyramid of map tiles in one SQLite file, rows counted from south (MBTiles 1.3)."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cvgeo.data.sources.pyramid import VECTOR, VECTOR_MEND, Address, TileStore, plain_attribution, tile_parts
from cvgeo.errors import InputError

SUFFIX = ".mbtiles"


class MBTilesStore(TileStore):
    """The tiles of an MBTiles file. `zoom`: this level only.

    Raises InputError for a file that is no such database, is damaged, or holds vector tiles.
    """

    def __init__(self, path: str | os.PathLike[str], zoom: int | None = None):
        self.path = Path(path)
        self.name = str(path)
        if not self.path.is_file():
            raise InputError("no such file", path=path, mend="check the spelling")
        # Closed by whichever thread ends the work.
        uri = f"{self.path.resolve().as_uri()}?mode=ro"
        self._database = sqlite3.connect(uri, uri=True, check_same_thread=False)
        try:
            self._open(zoom)
        except InputError:
            self.close()
            raise

    def _open(self, zoom: int | None) -> None:
        metadata = dict(self._rows("SELECT name, value FROM metadata"))
        if metadata.get("format") in ("pbf", "mvt"):
            raise InputError(VECTOR, path=self.path, mend=VECTOR_MEND)
        self.attribution = plain_attribution(metadata.get("attribution"))
        self.zooms = [row[0] for row in self._rows("SELECT DISTINCT zoom_level FROM tiles ORDER BY zoom_level")]
        if not self.zooms:
            raise InputError("holds no tiles", path=self.path)
        self.zooms = chosen_zooms(self.zooms, zoom, self.name)
        self._bounds = _bounds(metadata.get("bounds"))

    def _rows(self, query: str, values: tuple[int, ...] = ()) -> list[tuple]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            missing = "no such table" in str(error)
            fault = f"is no MBTiles file ({error})" if missing else f"is damaged or no MBTiles file ({error})"
            raise InputError(fault, path=self.path, mend="fetch it again") from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def read(self, address: Address) -> bytes | None:
        """The file of the tile at zoom, x, y; None where there is none."""
        zoom, x, y = address
        query = "SELECT tile_data FROM tiles WHERE zoom_level = ? AND tile_column = ? AND tile_row = ?"
        found = self._rows(query, (zoom, x, 2**zoom - 1 - y))
        return bytes(found[0][0]) if found and isinstance(found[0][0], bytes) else None

    def first(self) -> Address | None:
        """Some tile of the deepest level."""
        zoom = self.zooms[-1]
        x, row = self._rows("SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ? LIMIT 1", (zoom,))[0]
        return zoom, x, 2**zoom - 1 - row

    def addresses(self) -> Iterator[Address]:
        """All tiles."""
        for zoom in self.zooms:
            for x, row in self._rows("SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ?", (zoom,)):
                yield zoom, x, 2**zoom - 1 - row

    def parts(self) -> np.ndarray:
        """South, west, north, east (M, 4) of the tiles of the deepest level, no further than the file's bounds."""
        zoom = self.zooms[-1]
        rows = self._rows("SELECT tile_column, tile_row FROM tiles WHERE zoom_level = ?", (zoom,))
        x, row = np.array(rows, dtype=np.int64).T
        parts = tile_parts(x, 2**zoom - 1 - row, zoom)
        if self._bounds is not None:
            clipped = np.concatenate(
                [np.maximum(parts[:, :2], self._bounds[:2]), np.minimum(parts[:, 2:], self._bounds[2:])], axis=1
            )
            kept = clipped[(clipped[:, :2] < clipped[:, 2:]).all(axis=1)]
            # Bounds that leave nothing are wrong; the tiles themselves are not.
            parts = kept if len(kept) else parts
        return parts


def chosen_zooms(zooms: list[int], zoom: int | None, name: str) -> list[int]:
    """All levels of a pyramid, or the one that is asked for. Raises InputError where it is not there."""
    if zoom is None:
        return zooms
    if zoom not in zooms:
        span = f"{zooms[0]}" if len(zooms) == 1 else f"{zooms[0]} to {zooms[-1]}"
        raise InputError(f"has no tiles of zoom {zoom}, only of {span}", path=name, mend="give another --zoom")
    return [zoom]


def _bounds(text: str | None) -> np.ndarray | None:
    """South, west, north, east of `west,south,east,north`; None where that is absent or makes no sense."""
    try:
        west, south, east, north = (float(value) for value in str(text).split(","))
    except ValueError:
        return None
    return np.array([south, west, north, east]) if south < north and west < east else None
