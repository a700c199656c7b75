"""Aerial imagery as the user names it: a file, a folder or a URL template, and the source that each one is."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cvgeo.data.sources import mbtiles, pmtiles
from cvgeo.data.sources.pyramid import PyramidSource, TileStore
from cvgeo.data.sources.raster import RasterSource
from cvgeo.data.sources.slippy import FolderStore, is_tms, pyramids, slippy_address
from cvgeo.data.sources.source import Source
from cvgeo.data.sources.web import DEFAULT_RATE, WebStore, check_template, is_url, shown_url
from cvgeo.errors import InputError, UsageError
from cvgeo.paths import quick_digest

RASTER_SUFFIXES = frozenset({".tif", ".tiff", ".vrt", ".jp2", ".img"})
PACKED_SUFFIXES = frozenset({mbtiles.SUFFIX, pmtiles.SUFFIX})

Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageryOptions:
    """How imagery is read. `zoom` None: the level that fits; `area` (south, west, north, east) bounds a web source."""

    zoom: int | None = None
    tms: bool = False
    rate: float = DEFAULT_RATE
    area: Bounds | None = None


@dataclass(frozen=True)
class Imagery:
    """One source that is named: a raster, an MBTiles or PMTiles file, a folder of map tiles, or a URL template.

    `tiles` are the files of a folder of map tiles.
    """

    place: str
    options: ImageryOptions = field(default_factory=ImageryOptions)
    tiles: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """What a data set keeps of where it came from; no keys, no folders of this machine."""
        return shown_url(self.place) if is_url(self.place) else Path(self.place).name

    def open(self) -> Source:
        """Open it. Raises InputError for what cannot be read."""
        store = self._store()
        if store is None:
            return RasterSource(self.place)
        try:
            return PyramidSource(store)
        except BaseException:
            store.close()
            raise

    def _store(self) -> TileStore | None:
        options, suffix = self.options, Path(self.place).suffix.lower()
        if is_url(self.place):
            return WebStore(self.place, options.zoom, options.tms, options.rate, options.area)
        if self.tiles:
            return FolderStore(self.place, self.tiles, options.tms or is_tms(Path(self.place)), options.zoom)
        if suffix == mbtiles.SUFFIX:
            return mbtiles.MBTilesStore(self.place, options.zoom)
        return pmtiles.PMTilesStore(self.place, options.zoom) if suffix == pmtiles.SUFFIX else None

    def digest(self) -> str:
        """A digest that tells whether a later call has the same input: of the files, or of the URL."""
        if is_url(self.place):
            return hashlib.sha256(os.fsencode(self.place)).hexdigest()
        if self.tiles:
            digest = hashlib.sha256()
            for tile in self.tiles:
                name = "/".join(tile.absolute().parts[-3:])
                digest.update(f"{name}\0{quick_digest(tile)}\0".encode(errors="surrogateescape"))
            return digest.hexdigest()
        return quick_digest(self.place) if os.path.isfile(self.place) else "missing"


def find_imagery(words: Sequence[str | os.PathLike[str]], options: ImageryOptions = ImageryOptions()) -> list[Imagery]:
    """The sources that are named: files and URL templates as they are; of folders the rasters and pyramids in them.

    Raises InputError for a folder without any, UsageError for a URL that is no template.
    """
    found: list[Imagery] = []
    for word in map(os.fspath, words):
        if is_url(word):
            check_template(word)
            found.append(Imagery(word, options))
        elif os.path.isdir(word):
            found += _inside(Path(word), options)
        elif slippy_address(Path(word).absolute()) is not None and os.path.isfile(word):
            found += _pyramids([Path(word)], options)
        else:
            found.append(Imagery(word, options))
    return found


def _inside(folder: Path, options: ImageryOptions) -> list[Imagery]:
    rasters = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in RASTER_SUFFIXES | PACKED_SUFFIXES]
    found = [Imagery(str(path), options) for path in rasters] + find_pyramids(folder, options)
    if not found:
        mend = "name a GeoTIFF, an MBTiles file, a folder of them, or one of map tiles zoom/x/y.png"
        raise InputError("no raster in this folder", path=folder, mend=mend)
    return found


def find_pyramids(folder: Path, options: ImageryOptions = ImageryOptions()) -> list[Imagery]:
    """The pyramids of map tiles in a folder."""
    return _pyramids([path for path in sorted(folder.rglob("*")) if slippy_address(path.absolute())], options)


def _pyramids(tiles: list[Path], options: ImageryOptions) -> list[Imagery]:
    return [Imagery(str(root), options, tuple(files)) for root, files in pyramids(tiles).items()]


def parse_area(text: str) -> Bounds:
    """South, west, north, east in degrees of `S,W,N,E`; west may lie east of east across the date line.

    Raises UsageError for what is none, latitude and longitude in the wrong order where that shows.
    """
    try:
        south, west, north, east = (float(value) for value in re.split(r"\s*,\s*", text.strip()))
    except ValueError as error:
        mend = "give four numbers S,W,N,E, such as 48.1,11.5,48.2,11.6"
        raise UsageError(f"--bbox {text} is no area", mend=mend) from error
    for name, value, limit in (("south", south, 90), ("west", west, 180), ("north", north, 90), ("east", east, 180)):
        if not abs(value) <= limit:
            mend = "the order is south,west,north,east: latitude, then longitude"
            raise UsageError(f"--bbox: {name} {value:g} is out of range", mend=mend)
    if south >= north or west == east:
        fault = f"--bbox: south {south:g} is not below north {north:g}" if south >= north else "--bbox has no width"
        raise UsageError(fault, mend="the order is south,west,north,east")
    return south, west, north, east + 360 if west > east else east
