from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cvgeo.data.images import write_image
from cvgeo.data.sources.imagery import find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.raster import RasterSource
from cvgeo.data.sources.slippy import gdal_name, slippy_address
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import tile_of, tile_position, web_mercator_resolution

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "orthophotos" / "xyz_tiles"
ZOOM, X, Y = 18, 69108, 105091


def write_pyramid(folder: Path) -> Path:
    """2 x 2 tiles of 256 pixels, each of one grey, with a white spot around the corner where they meet."""
    for x in (0, 1):
        for y in (0, 1):
            tile = np.full((256, 256, 3), 40 + 40 * (2 * y + x), dtype=np.uint8)
            rows, columns = slice(246, 256) if y == 0 else slice(0, 10), slice(246, 256) if x == 0 else slice(0, 10)
            tile[rows, columns] = 255
            write_image(folder / str(ZOOM) / str(X + x) / f"{Y + y}.png", tile)
    return folder


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("18/69108/105091.png", (18, 69108, 105091)),
        ("maps of a town/3/7/0.WEBP", (3, 7, 0)),
        ("3/8/0.png", None),
        ("25/1/1.png", None),
        ("18/69108/105091.tif", None),
        ("18/69108/a.png", None),
        ("1.png", None),
    ],
)
def test_address_is_read_from_the_path(name, address):
    assert slippy_address(Path(name)) == address
    assert (gdal_name(Path(name)) == name) == (address is None)


def test_one_tile_lies_where_its_address_says(tmp_path):
    path = write_pyramid(tmp_path / "with spaces & more") / str(ZOOM) / str(X) / f"{Y}.png"
    with RasterSource(path) as source:
        lat, lon = source.pixel_to_latlon(np.array([64.0]), np.array([192.0]))
        x, y = tile_of(lat, lon, ZOOM)
        assert abs(x[0] - (X + 0.75)) < 1e-6 and abs(y[0] - (Y + 0.25)) < 1e-6
        assert source.gsd_m == pytest.approx(web_mercator_resolution(lat[0], ZOOM), rel=0.01)


def test_folder_is_one_mosaic(tmp_path):
    rasters = find_imagery([write_pyramid(tmp_path)])
    assert len(rasters) == 1 and len(rasters[0].tiles) == 4
    lat, lon = (float(value) for value in tile_position(X + 1, Y + 1, ZOOM))
    with Mosaic(rasters) as mosaic:
        tile, mask = mosaic.cut_tile(lat, lon, 101, mosaic.gsd_m)
    assert mask.mean() > 0.97
    rows, columns = np.nonzero((tile[..., 0] > 240) & mask)
    assert abs(rows.mean() - 50) < 0.6 and abs(columns.mean() - 50) < 0.6
    greys = [int(tile[r, c, 0]) for r in (15, 85) for c in (15, 85)]
    assert greys == [40, 80, 120, 160]


def test_other_pictures_are_no_rasters(tmp_path):
    write_image(tmp_path / "photo.png", np.zeros((8, 8, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="zoom/x/y"):
        find_imagery([tmp_path])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
def test_real_tiles_are_cut():
    rasters = find_imagery([SHARED])
    assert len(rasters) == 1 and len(rasters[0].tiles) == 7
    with Mosaic(rasters) as mosaic:
        assert len(mosaic.parts) == 7
        for path in rasters[0].tiles:
            zoom, x, y = slippy_address(path)
            lat, lon = (float(value) for value in tile_position(x + 0.5, y + 0.5, zoom))
            tile, mask = mosaic.cut_tile(lat, lon, 128, 0.6)
            assert mask.all() and tile.std() > 5
