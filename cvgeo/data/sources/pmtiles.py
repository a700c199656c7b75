"""PMTiles version 3: a pyramid of map tiles in one file, found by directories of Hilbert-curve numbers."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cvgeo.data.sources.mbtiles import chosen_zooms
from cvgeo.data.sources.pyramid import VECTOR, VECTOR_MEND, Address, TileStore, plain_attribution
from cvgeo.errors import CvgeoError, InputError, explain_os_error

SUFFIX = ".pmtiles"
HEADER_BYTES = 127
DEEPEST_DIRECTORY = 4
DIRECTORIES_KEPT = 64
MOST_BYTES = 2**26  # of a directory or a tile; more is damage
_DAMAGED = (ValueError, EOFError, OSError, IndexError, zlib.error, OverflowError)


@lru_cache(maxsize=1)
def _format() -> ModuleType:
    # The package's own Reader unpacks the root directory anew for every tile; its parts do not.
    try:
        from pmtiles import tile
    except ModuleNotFoundError as error:
        raise CvgeoError("PMTiles need one more package", mend="`pip install 'cvgeo[pmtiles]'`") from error
    return tile


class PMTilesStore(TileStore):
    """The tiles of a PMTiles file. `zoom`: this level only.

    Raises InputError for a file that is none, is damaged, or holds vector tiles; CvgeoError where the extra `pmtiles`
    is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], zoom: int | None = None):
        self.path = Path(path)
        self.name = str(path)
        form = _format()
        try:
            self._file = open(path, "rb")  # noqa: SIM115 - it stays open as long as the store
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        self._size = os.fstat(self._file.fileno()).st_size
        try:
            self._header = self._read_header()
            if self._header["tile_type"] in (form.TileType.MVT, form.TileType.MLT):
                raise InputError(VECTOR, path=path, mend=VECTOR_MEND)
            self.attribution = plain_attribution(self._metadata().get("attribution"))
            zooms = list(range(self._header["min_zoom"], self._header["max_zoom"] + 1))
            self.zooms = chosen_zooms(zooms, zoom, self.name)
        except CvgeoError:
            self.close()
            raise
        self._directory = lru_cache(maxsize=DIRECTORIES_KEPT)(self._read_directory)

    def _read_header(self) -> dict[str, Any]:
        form = _format()
        try:
            return form.deserialize_header(self._bytes(0, HEADER_BYTES))
        except (form.MagicNumberNotFound, form.SpecVersionUnsupported, UnicodeDecodeError) as error:
            raise InputError("is no PMTiles file of version 3", path=self.path, mend="`pmtiles convert` it") from error
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def _damaged(self, reason: object) -> InputError:
        return InputError(f"is damaged ({reason})", path=self.path, mend="fetch it again")

    def _bytes(self, offset: int, length: int) -> bytes:
        if offset + length > self._size or length > MOST_BYTES:
            raise InputError("is truncated", path=self.path, mend="fetch it again")
        return os.pread(self._file.fileno(), length, offset)

    def _metadata(self) -> dict[str, Any]:
        data = self._bytes(self._header["metadata_offset"], self._header["metadata_length"])
        try:
            packed = self._header["internal_compression"] == _format().Compression.GZIP
            found = json.loads(gzip.decompress(data) if packed else data) if data else {}
        except _DAMAGED as error:
            raise self._damaged(error) from error
        return found if isinstance(found, dict) else {}

    def _read_directory(self, offset: int, length: int) -> list[Any]:
        try:
            return _format().deserialize_directory(self._bytes(offset, length))
        except _DAMAGED as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def read(self, address: Address) -> bytes | None:
        """The file of the tile at zoom, x, y; None where there is none."""
        form, header = _format(), self._header
        wanted = form.zxy_to_tileid(*address)
        offset, length = header["root_offset"], header["root_length"]
        for _ in range(DEEPEST_DIRECTORY):
            entry = form.find_tile(self._directory(offset, length), wanted)
            if entry is None:
                return None
            if entry.run_length:
                return self._bytes(header["tile_data_offset"] + entry.offset, entry.length)
            offset, length = header["leaf_directory_offset"] + entry.offset, entry.length
        raise self._damaged("its directories have no end")

    def first(self) -> Address | None:
        """The first tile of the file."""
        form, header = _format(), self._header
        offset, length = header["root_offset"], header["root_length"]
        for _ in range(DEEPEST_DIRECTORY):
            entries = self._directory(offset, length)
            if not entries:
                raise InputError("holds no tiles", path=self.path)
            if entries[0].run_length:
                return form.tileid_to_zxy(entries[0].tile_id)
            offset, length = header["leaf_directory_offset"] + entries[0].offset, entries[0].length
        raise self._damaged("its directories have no end")

    def addresses(self) -> Iterator[Address]:
        """All tiles."""
        form, header = _format(), self._header
        directories = [(header["root_offset"], header["root_length"], 1)]
        while directories:
            offset, length, depth = directories.pop()
            if depth > DEEPEST_DIRECTORY:
                raise self._damaged("its directories have no end")
            for entry in self._directory(offset, length):
                if not entry.run_length:
                    directories.append((header["leaf_directory_offset"] + entry.offset, entry.length, depth + 1))
                for number in range(entry.run_length):
                    address = form.tileid_to_zxy(entry.tile_id + number)
                    if address[0] in self.zooms:
                        yield address

    def parts(self) -> np.ndarray:
        """South, west, north, east (1, 4), as the file's header says."""
        return np.array([[self._header[f"{edge}_e7"] / 1e7 for edge in ("min_lat", "min_lon", "max_lat", "max_lon")]])
