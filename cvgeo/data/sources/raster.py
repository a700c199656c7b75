"""Georeferenced rasters (GeoTIFF, COG, VRT and whatever else GDAL reads) as sources, in any projection."""

from __future__ import annotations

import os
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data.sources.slippy import gdal_name
from cvgeo.data.sources.source import COARSER, Source, Window
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import latlon_to_map, map_to_latlon, pixel_to_map
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.shapes import GeometryError

STRETCH_PERCENTILES = (0.5, 99.5)  # of a sample: what becomes black and white where samples are not 8 bits wide
FARTHEST_EAST = 540.0  # degrees, of a raster across the date line
CACHE_MB = "64"  # of decoded blocks that GDAL keeps; a share of all memory otherwise


class RasterSource(Source):
    """One open raster from which tiles are cut. A context manager; not to be shared between threads.

    Raises InputError for a file that GDAL does not read, and for a raster without a coordinate reference system or
    without a place in it.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.name = self.path.name
        self._open()
        self.transform = tuple(self._raster.transform)[:6]
        self.turn = _turn(self._raster.crs)

    def _open(self) -> None:
        # GDAL would tell of damage on stderr, beside the one line that explains it; it asks for this only once.
        os.environ.setdefault("CPL_LOG", os.devnull)
        os.environ.setdefault("GDAL_CACHEMAX", CACHE_MB)
        import rasterio
        from rasterio.errors import NotGeoreferencedWarning, RasterioError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)
                self._raster = rasterio.open(gdal_name(self.path))
        except RasterioError as error:
            missing = not self.path.exists()
            fault = "no such file" if missing else f"cannot be read as a raster: {_plain(error, self.path)}"
            mend = "check the spelling" if missing else "name a GeoTIFF or another raster, or fetch it again"
            raise InputError(fault, path=self.path, mend=mend) from error
        try:
            self._check()
            self._bands = _band_plan(self._raster)
        except InputError:
            self.close()
            raise

    def _check(self) -> None:
        raster = self._raster
        if raster.crs is None:
            mend = f"give it one: gdal_edit.py -a_srs EPSG:<code> {self.path.name}"
            raise InputError("has no coordinate reference system", path=self.path, mend=mend)
        if raster.transform.is_identity or raster.transform.determinant == 0:
            mend = f"say where it lies: gdal_edit.py -a_ullr <left> <top> <right> <bottom> {self.path.name}"
            raise InputError("has no georeference (its pixels have no place)", path=self.path, mend=mend)
        if not raster.crs.is_projected and not raster.crs.is_geographic:
            mend = "warp it to a projected system with gdalwarp -t_srs"
            raise InputError(
                "its coordinate reference system is not one of the earth's surface", path=self.path, mend=mend
            )
        x, y, other_x, other_y = raster.bounds
        if raster.crs.is_geographic and (max(abs(x), abs(other_x)) > FARTHEST_EAST or max(abs(y), abs(other_y)) > 91):
            fault = f"its corners {x:g}, {y:g} and {other_x:g}, {other_y:g} are not in degrees, as {self.crs_name} is"
            mend = f"say in which system they are: gdal_edit.py -a_srs EPSG:<code> {self.path.name}"
            raise InputError(fault, path=self.path, mend=mend)
        if any(kind.startswith("complex") for kind in raster.dtypes):
            mend = "write what is to be seen of them, such as their magnitude, as a raster"
            raise InputError("its numbers are complex, which is no picture", path=self.path, mend=mend)

    def close(self) -> None:
        """Close the file; any thread may."""
        self._raster.close()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._raster.height, self._raster.width

    @property
    def crs_name(self) -> str:
        """The coordinate reference system as its authority names it (`EPSG:32631`), else as WKT."""
        return self._raster.crs.to_string()

    @property
    def limits(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First and last row, first and last column that have pixels."""
        return (0, self._raster.height), (0, self._raster.width)

    @property
    def middle(self) -> tuple[float, float]:
        """Row and column of the middle."""
        return self._raster.height / 2, self._raster.width / 2

    def to_map(self, lat: np.ndarray, lon: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map coordinates x, y of positions. Raises GeometryError outside the projection."""
        return latlon_to_map(lat, lon, self._raster.crs)

    def pixel_to_latlon(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Latitude and longitude of pixel positions; (0, 0) is the upper left corner of the upper left pixel."""
        x, y = pixel_to_map(self.transform, rows, columns)
        return map_to_latlon(x, y, self._raster.crs)

    @cached_property
    def bounds_latlon(self) -> tuple[float, float, float, float]:
        """South, west, north, east of the raster's outline (west above east where it crosses the date line)."""
        from rasterio.warp import transform_bounds

        west, south, east, north = transform_bounds(self._raster.crs, "EPSG:4326", *self._raster.bounds)
        return south, west, north, east

    def read(self, window: Window, scale: float) -> tuple[np.ndarray, np.ndarray | None, tuple[float, float]]:
        """A window as RGB and mask, averaged down by about `scale` where that is above 1; see Source.read."""
        from rasterio import windows
        from rasterio.errors import RasterioError

        top, bottom, left, right = window
        height, width = bottom - top, right - left
        shape = (height, width)
        if scale > COARSER:
            shape = (max(1, round(height / scale)), max(1, round(width / scale)))
        try:
            part = windows.Window(left, top, width, height)
            rgb, mask = self._bands.read(self._raster, part, shape, self._stretch)
        except RasterioError as error:
            raise InputError(
                f"is damaged: {_plain(error, self.path)}", path=self.path, mend="fetch it again"
            ) from error
        return rgb, mask, (height / shape[0], width / shape[1])

    @cached_property
    def _stretch(self) -> tuple[float, float] | None:
        """The values that become 0 and 255; None where samples are bytes already."""
        if self._raster.dtypes[self._bands.indexes[0] - 1] == "uint8":
            return None
        sample = self._sample()
        if not len(sample):
            return 0.0, 1.0
        low, high = np.percentile(sample, STRETCH_PERCENTILES)
        return float(low), float(high if high > low else low + 1)

    def _sample(self, cells: int = 8, side: int = 64) -> np.ndarray:
        # Small windows on a regular grid: bounded work on a raster of any size, and the same in every process.
        from rasterio.windows import Window

        height, width = self.size
        values = []
        for top in np.unique(np.linspace(0, max(height - side, 0), cells).astype(int)):
            for left in np.unique(np.linspace(0, max(width - side, 0), cells).astype(int)):
                window = Window(int(left), int(top), min(side, width), min(side, height))
                bands = self._raster.read(self._bands.indexes, window=window).astype(np.float64)
                seen = (self._raster.dataset_mask(window=window) > 0) & np.isfinite(bands).all(axis=0)
                values.append(bands[:, seen].ravel())
        return np.concatenate(values)


class _BandPlan:
    """Which bands make red, green and blue, and whether they are indexes into a palette."""

    def __init__(self, indexes: list[int], palette: np.ndarray | None = None):
        self.indexes = indexes
        self.palette = palette

    def read(
        self, raster: Any, window: Any, shape: tuple[int, int], stretch: tuple[float, float] | None
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """RGB (h, w, 3 or 4) uint8 and mask (h, w) uint8 (None: all valid) of a window, resampled to `shape`."""
        from rasterio.enums import MaskFlags, Resampling

        # Indexes into a palette cannot be averaged.
        resampling = Resampling.average if self.palette is None else Resampling.nearest
        bands = raster.read(self.indexes, window=window, out_shape=(len(self.indexes), *shape), resampling=resampling)
        whole = all(flags == [MaskFlags.all_valid] for flags in raster.mask_flag_enums)
        mask = None if whole else raster.dataset_mask(window=window, out_shape=shape)
        if self.palette is not None:
            return self.palette[bands[0]], mask
        if stretch is not None:
            mask = np.where(np.isfinite(bands).all(axis=0), 255 if mask is None else mask, 0).astype(np.uint8)
            low, high = stretch
            scaled = (bands.astype(np.float32) - low) * (255.0 / (high - low))
            bands = np.clip(np.nan_to_num(scaled), 0, 255).round().astype(np.uint8)
        # OpenCV interleaves several times faster than a transposed copy.
        return import_cv2().merge([bands[row % len(bands)] for row in (0, 1, 2, 2)]), mask


def _band_plan(raster: Any) -> _BandPlan:
    from rasterio.enums import ColorInterp

    meaning = list(raster.colorinterp)
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
    if all(colour in meaning for colour in colours):
        return _BandPlan([meaning.index(colour) + 1 for colour in colours])
    if meaning[0] is ColorInterp.palette and raster.dtypes[0] == "uint8":
        palette = np.zeros((256, 3), np.uint8)
        for index, colour in raster.colormap(1).items():
            palette[index] = colour[:3]
        return _BandPlan([1], palette)
    shown = [band for band, what in enumerate(meaning, start=1) if what is not ColorInterp.alpha]
    if not shown:
        raise InputError("has no band but alpha", path=raster.name)
    return _BandPlan(shown[:3] if len(shown) >= 3 else shown[:1])


def _plain(error: Exception, path: Path) -> str:
    # GDAL's messages name the path once more.
    text = str(error.__cause__ or error).split("\n")[0]
    for name in (str(path), path.name):
        text = text.replace(f"'{name}'", "the file").replace(f"{name}: ", "").replace(name, "the file")
    return text.strip().rstrip(".")


def _turn(crs: Any) -> float:
    """By how much the map's x grows around the earth; 0 where the projection does not close into a cylinder."""
    lon = np.tile(np.arange(-150.0, 151.0, 30.0), 2)
    lat = np.repeat([0.0, 40.0], len(lon) // 2)
    try:
        x = latlon_to_map(lat, lon, crs)[0].reshape(2, -1)
    except GeometryError:
        return 0.0
    steps = np.diff(x[0])
    turn = float(12 * np.median(steps))
    # One step may lead over the seam, the others are alike, and so are both latitudes.
    even = np.abs(steps - np.rint((steps - turn / 12) / turn) * turn - turn / 12).max() if turn > 0 else np.inf
    return turn if max(even, np.abs(x[0] - x[1]).max()) < 1e-6 * turn else 0.0
