"""Folders of map tiles (`zoom/x/y.png`, row 0 in the north, or in the south where they are TMS)."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cvgeo.data.images import read_bytes
from cvgeo.data.sources.mbtiles import chosen_zooms
from cvgeo.data.sources.pyramid import Address, TileStore, plain_attribution, tile_parts
from cvgeo.geometry.geodesy import SEMI_MAJOR_M
from cvgeo.paths import utf8_path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
DEEPEST_ZOOM = 24
TMS_MARK = "tilemapresource.xml"  # gdal2tiles writes it beside TMS tiles
METADATA = "metadata.json"  # mb-util writes it: `scheme` and `attribution`


def slippy_address(path: Path) -> tuple[int, int, int] | None:
    """Zoom, column x and row y that a tile's path names; None where it names none."""
    numbers = path.parent.parent.name, path.parent.name, path.stem
    if path.suffix.lower() not in SUFFIXES or not all(number.isdecimal() for number in numbers):
        return None
    zoom, x, y = map(int, numbers)
    return None if zoom > DEEPEST_ZOOM or max(x, y) >= 2**zoom else (zoom, x, y)


def gdal_name(path: Path) -> str:
    """What GDAL opens: the path, and for a slippy-map tile the path with the corners that its address says."""
    address, name = slippy_address(path), utf8_path(path)
    # GDAL takes a question mark for the end of the path.
    if address is None or "?" in name:
        return name
    zoom, x, y = address
    side = 2 * math.pi * SEMI_MAJOR_M / 2**zoom
    west, north = x * side - math.pi * SEMI_MAJOR_M, math.pi * SEMI_MAJOR_M - y * side
    corners = ",".join(repr(value) for value in (west, north, west + side, north - side))
    return f"vrt://{name}?a_srs=EPSG:3857&a_ullr={corners}"


def pyramids(tiles: Iterable[Path]) -> dict[Path, list[Path]]:
    """Tile files by the folder in which their zoom folders lie."""
    found: dict[Path, list[Path]] = defaultdict(list)
    for tile in tiles:
        found[tile.absolute().parents[2]].append(tile)
    return dict(found)


def is_tms(root: Path) -> bool:
    """Whether what lies beside the tiles says that rows count from south."""
    return (root / TMS_MARK).is_file() or _metadata(root).get("scheme") == "tms"


def _metadata(root: Path) -> dict:
    try:
        found = json.loads((root / METADATA).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class FolderStore(TileStore):
    """Tiles in a folder: these files of it, at least one, each with an address. `zoom`: this level only."""

    def __init__(self, root: str | os.PathLike[str], tiles: Iterable[Path], tms: bool = False, zoom: int | None = None):
        self.name = os.path.relpath(root) if Path(root).is_relative_to(Path.cwd()) else str(root)
        self.attribution = plain_attribution(_metadata(Path(root)).get("attribution"))
        self._files: dict[Address, Path] = {}
        for tile in tiles:
            level, x, y = slippy_address(tile.absolute())
            self._files[level, x, 2**level - 1 - y if tms else y] = tile
        self.zooms = chosen_zooms(sorted({address[0] for address in self._files}), zoom, self.name)

    def read(self, address: Address) -> bytes | None:
        """The file of the tile at zoom, x, y; None where there is none."""
        path = self._files.get(address)
        return None if path is None else read_bytes(path)

    def first(self) -> Address | None:
        """The first tile of the deepest level."""
        return next(address for address in self._files if address[0] == self.zooms[-1])

    def addresses(self) -> Iterator[Address]:
        """All tiles."""
        return (address for address in self._files if address[0] in self.zooms)

    def parts(self) -> np.ndarray:
        """South, west, north, east (M, 4) of the tiles of the deepest level."""
        x, y = np.array([address[1:] for address in self._files if address[0] == self.zooms[-1]]).T
        return tile_parts(x, y, self.zooms[-1])
