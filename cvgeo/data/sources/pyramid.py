"""Pyramids of map tiles (`zoom/x/y`, web mercator) as sources, wherever the tiles are kept."""

from __future__ import annotations

import html
import math
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from functools import cached_property

import numpy as np

from cvgeo.data.images import decode_with_mask, encoded_size
from cvgeo.data.sources.source import COARSER, Source, Window
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import tile_of, tile_position
from cvgeo.geometry.opencv import import_cv2

USUAL_SIZE = 256
SIZES = (64, 128, 256, 512, 1024, 2048)
KEPT = 96  # decoded tiles
MOST_PARTS = 2048
VECTOR = "holds vector tiles, not pictures"
VECTOR_MEND = "render them to a raster pyramid, or name aerial imagery"

Address = tuple[int, int, int]


class TileStore(ABC):
    """Where the tiles of a pyramid are kept. `zooms` are the levels that there are, ascending; rows count from north.

    `name` is what errors call it, `attribution` whom it names as the source of the pictures.
    """

    name: str
    zooms: list[int]
    attribution: str = ""

    @abstractmethod
    def read(self, address: Address) -> bytes | None:
        """The file of the tile at zoom, x, y; None where there is none. Raises InputError where it cannot be read."""

    @abstractmethod
    def first(self) -> Address | None:
        """Some tile of the deepest level, to tell the tiles' size by; None where that is not known beforehand."""

    @abstractmethod
    def addresses(self) -> Iterator[Address]:
        """All tiles of `zooms`, in any order; nothing where they are not known beforehand."""

    @abstractmethod
    def parts(self) -> np.ndarray:
        """South, west, north, east (M, 4) of the parts that hold tiles."""

    def close(self) -> None:
        """Close what is open; nothing where nothing stays open."""
        return


def plain_attribution(text: object) -> str:
    """An attribution as one line of text: without the HTML that tile sets put around it."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", str(text or ""))).split())


def tile_parts(x: np.ndarray, y: np.ndarray, zoom: int) -> np.ndarray:
    """South, west, north, east (M, 4) of tiles (N,) at a zoom; those of near ones together where they are many."""
    shift, cells = 0, np.unique(np.stack([x, y]), axis=1)
    while cells.shape[1] > MOST_PARTS:
        shift += 1
        cells = np.unique(np.stack([x, y]) >> shift, axis=1)
    _, cell = np.unique(np.stack([x, y]) >> shift, axis=1, return_inverse=True)
    least, most = np.full(cells.shape, 2**30), np.full(cells.shape, -1)
    for axis, values in enumerate((x, y)):
        np.minimum.at(least[axis], cell.ravel(), values)
        np.maximum.at(most[axis], cell.ravel(), values)
    north, west = tile_position(least[0], least[1], zoom)
    south, east = tile_position(most[0] + 1, most[1] + 1, zoom)
    return np.stack([south, west, north, east], axis=1)


class PyramidSource(Source):
    """The tiles of a store as one grid on the web-mercator square, which closes around the earth.

    Coarser levels serve as overviews: a tile is cut from the level whose pixels are as large as its own, or at most
    1.25 times as large. Raises InputError for a damaged tile, and where tiles of one pyramid differ in size.
    """

    crs_name = "EPSG:3857"

    def __init__(self, store: TileStore):
        self.store, self.name, self.attribution = store, store.name, store.attribution
        self._decoded: OrderedDict[Address, tuple[np.ndarray, np.ndarray | None] | None] = OrderedDict()
        self._tile_size = 0
        first = store.first()
        if first is not None:
            self._tile(first)
        # Pixels around the earth; without a tile to tell, as of tiles of the usual size.
        self.side = self.tile_size * 2 ** store.zooms[-1]
        self.transform = (1 / self.side, 0.0, 0.0, 0.0, 1 / self.side, 0.0)
        self.turn = 1.0

    @property
    def tile_size(self) -> int:
        """Pixels a side of the tiles; the usual ones where none has told yet."""
        return self._tile_size or USUAL_SIZE

    def tile_name(self, address: Address) -> str:
        """What errors call a tile."""
        return f"{self.name}, tile {'/'.join(map(str, address))}"

    def check(self, address: Address) -> None:
        """Decode a tile and forget it. Raises InputError as cutting from it does."""
        data = self.store.read(address)
        if data is not None:
            self._decode(data, address)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    @cached_property
    def parts_latlon(self) -> np.ndarray:
        """South, west, north, east (M, 4) of the parts that hold tiles."""
        return self.store.parts()

    @cached_property
    def bounds_latlon(self) -> tuple[float, float, float, float]:
        """South, west, north, east of the outline of all tiles."""
        parts = self.parts_latlon
        edges = [*parts[:, :2].min(axis=0), *parts[:, 2:].max(axis=0)]
        south, west, north, east = (float(edge) for edge in edges)
        return south, west, north, east

    @property
    def limits(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows end at the square's edges; columns go around the earth."""
        return (0, self.side), (-self.side, 2 * self.side)

    @cached_property
    def middle(self) -> tuple[float, float]:
        """Row and column of the middle of the outline."""
        south, west, north, east = self.bounds_latlon
        x, y = tile_of([south, north], [west, east], 0)
        return float(y.mean() * self.side), float(x.mean() * self.side)

    def to_map(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The share of the way around the earth from the date line, and down the square."""
        return tile_of(lat, lon, 0)

    def pixel_to_latlon(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of pixel positions of the deepest level."""
        return tile_position(np.asarray(columns) / self.side, np.asarray(rows) / self.side, 0)

    def covers(self, lat: float, lon: float, half_size_m: float = 0.0) -> bool:
        """Whether the square of this half size around a position lies within the parts that hold tiles."""
        rows, columns = self._control_points(np.array([lat]), np.array([lon]), half_size_m)
        if not np.isfinite(rows).all():
            return False
        lat, lon = self.pixel_to_latlon(rows.ravel(), columns.ravel())
        south, west, north, east = self.parts_latlon.T
        off = np.abs((lon[:, None] - (west + east) / 2 + 180) % 360 - 180)
        inside = (off <= (east - west) / 2 + 1e-12) & (south <= lat[:, None]) & (lat[:, None] <= north)
        return bool(inside.any(axis=1).all())

    def read(self, window: Window, scale: float) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
        """A window out of the level that fits the scale; see Source.read."""
        zoom, factor = self._level(scale)
        size = self.tile_size
        image, mask = self._assemble(zoom, [round(edge / factor) for edge in window])
        if size != self.tile_size:
            # The first tile of all has told the size, and so another level fits.
            return self.read(window, scale)
        if scale / factor > COARSER:
            image, mask = _averaged(image, mask, scale / factor)
        height, width = window[1] - window[0], window[3] - window[2]
        return image, mask, (height / image.shape[0], width / image.shape[1])

    def _level(self, scale: float) -> tuple[int, float]:
        """The zoom whose pixels fit tile pixels of `scale` pixels of the grid, and how many of them a side one has."""
        size = self.tile_size
        wanted = math.log2(self.side / size) - math.log2(scale * COARSER)
        zoom = next((zoom for zoom in self.store.zooms if zoom >= wanted), self.store.zooms[-1])
        return zoom, self.side / (size * 2.0**zoom)

    def _assemble(self, zoom: int, edges: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of one level between top, bottom, left and right, with mask."""
        top, bottom, left, right = edges
        image = np.zeros((bottom - top, right - left, 3), np.uint8)
        mask = np.zeros(image.shape[:2], np.uint8)
        size, count = self.tile_size, 2**zoom
        for y in range(max(0, top // size), min(count, -(-bottom // size))):
            for x in range(left // size, -(-right // size)):
                tile = self._tile((zoom, x % count, y))
                if tile is None:
                    continue
                if self._tile_size != size:
                    return image, mask
                rows = slice(max(top, y * size), min(bottom, (y + 1) * size))
                columns = slice(max(left, x * size), min(right, (x + 1) * size))
                there = slice(rows.start - top, rows.stop - top), slice(columns.start - left, columns.stop - left)
                here = (
                    slice(rows.start - y * size, rows.stop - y * size),
                    slice(columns.start - x * size, columns.stop - x * size),
                )
                image[there] = tile[0][here]
                mask[there] = 255 if tile[1] is None else tile[1][here]
        return image, mask

    def _tile(self, address: Address) -> tuple[np.ndarray, np.ndarray | None] | None:
        if address in self._decoded:
            self._decoded.move_to_end(address)
            return self._decoded[address]
        data = self.store.read(address)
        tile = None if data is None else self._decode(data, address)
        self._decoded[address] = tile
        if len(self._decoded) > KEPT:
            self._decoded.popitem(last=False)
        return tile

    def _decode(self, data: bytes, address: Address) -> tuple[np.ndarray, np.ndarray | None]:
        where = self.tile_name(address)
        check_picture(data, where)
        side = tile_side(encoded_size(data, where), where)
        if self._tile_size and side != self._tile_size:
            fault = f"has {side} pixels a side, others of the same pyramid have {self._tile_size}"
            raise InputError(fault, path=where, mend="make the pyramid anew with tiles of one size")
        tile = decode_with_mask(data, where)
        self._tile_size = side
        return tile


def check_picture(data: bytes, where: str) -> None:
    """Raise InputError for a tile that is empty, or a vector tile (gzip, or Mapbox's protobuf)."""
    if not data:
        raise InputError("the tile is empty", path=where, mend="fetch it again")
    if data.startswith((b"\x1f\x8b", b"\x1a")):
        raise InputError(VECTOR, path=where, mend=VECTOR_MEND)


def tile_side(size: tuple[int, int], where: str) -> int:
    """Pixels a side of a map tile of (height, width). Raises InputError for what is too odd or too large to unpack."""
    height, width = size
    if height != width or height not in SIZES:
        raise InputError(f"has {width}x{height} pixels: map tiles are squares of 256 or 512", path=where)
    return height


def _averaged(image: np.ndarray, mask: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    cv2 = import_cv2()
    height, width = image.shape[:2]
    size = max(1, round(width / scale)), max(1, round(height / scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.resize(
        mask, size, interpolation=cv2.INTER_NEAREST
    )
