"""GeoTIFFs of north-up tiles, and the mark by which a later run knows its own work."""

from __future__ import annotations

import os
import warnings

import numpy as np

from cvgeo.paths import atomic_file, utf8_path

TAG = "CVGEO"


def tile_crs(lat: float, lon: float) -> str:
    """The transverse mercator of a tile, as PROJ reads it: its centre is 0, 0, metres are true and north is up.

    In a UTM zone the tile would stand up to three degrees turned and 0.04 % off scale.
    """
    return f"+proj=tmerc +lat_0={lat:.10f} +lon_0={lon:.10f} +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"


def write_tile_geotiff(
    path: str | os.PathLike[str], rgba: np.ndarray, lat: float, lon: float, gsd_m: float, mark: str = ""
) -> None:
    """Write a north-up tile (S, S, 4) uint8 with its place, whole or not at all.

    Pixel (r, c) lies (S/2 - r - 1/2) gsd_m metres north and (c + 1/2 - S/2) gsd_m metres east of `lat`, `lon`, as
    tiles are cut. `mark` is kept in a tag that `geotiff_mark` reads. Raises OutputError where the system refuses.
    """
    import rasterio
    from rasterio.enums import ColorInterp
    from rasterio.transform import from_origin

    height, width = rgba.shape[:2]
    profile = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 4,
        "dtype": "uint8",
        "crs": tile_crs(lat, lon),
        "transform": from_origin(-width / 2 * gsd_m, height / 2 * gsd_m, gsd_m, gsd_m),
        "compress": "DEFLATE",
        "photometric": "RGB",
    }
    with atomic_file(path) as temporary, rasterio.open(utf8_path(temporary), "w", **profile) as target:
        target.colorinterp = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
        target.write(np.moveaxis(rgba, 2, 0))
        target.update_tags(**{TAG: mark})


def geotiff_mark(path: str | os.PathLike[str]) -> str | None:
    """The mark in a GeoTIFF that `write_tile_geotiff` wrote; None for any other file."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(utf8_path(path)) as raster:
                return raster.tags().get(TAG)
    except RasterioError:
        return None
