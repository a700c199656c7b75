"""GeoTIFFs of tiles: every pixel where the tile's definition puts it."""

import numpy as np
import pytest
import rasterio
from rasterio.warp import transform

from cvgeo.data.geotiff import geotiff_mark, write_tile_geotiff
from cvgeo.data.sources.raster import RasterSource
from cvgeo.errors import OutputError
from cvgeo.geometry.geodesy import move, offset_metres

PLACES = [(45.606, -2.998, 0.25), (51.5, -0.0873, 1.0), (-33.9, 179.9995, 0.5), (69.6, 18.95, 0.6), (0.0, 30.0, 0.1)]


def picture(size, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 4), dtype=np.uint8)
    values[..., 3] = 255
    return values


@pytest.mark.parametrize(("lat", "lon", "gsd"), PLACES)
@pytest.mark.parametrize("size", [64, 101])
def test_pixels_lie_where_the_tile_has_them(tmp_path, lat, lon, gsd, size):
    write_tile_geotiff(tmp_path / "a.tif", picture(size), lat, lon, gsd, "mark")
    with rasterio.open(tmp_path / "a.tif") as raster:
        assert raster.count == 4 and raster.colorinterp[3].name == "alpha"
        for row, column in ((0, 0), (size - 1, 0), (size // 2, size - 1), (size - 1, size - 1)):
            x, y = raster.xy(row, column)
            (east_lon,), (north_lat,) = transform(raster.crs, "EPSG:4326", [x], [y])
            expected = move(lat, lon, (size / 2 - row - 0.5) * gsd, (column + 0.5 - size / 2) * gsd)
            off = offset_metres(expected[0], expected[1], north_lat, east_lon)
            assert np.hypot(*off) < 0.01 * gsd
        np.testing.assert_array_equal(np.moveaxis(raster.read(), 0, 2), picture(size))
    assert geotiff_mark(tmp_path / "a.tif") == "mark"


def test_a_tile_cut_out_of_it_is_the_tile(tmp_path):
    lat, lon, gsd = 45.606, -2.998, 0.25
    rgba = picture(80)
    write_tile_geotiff(tmp_path / "a.tif", rgba, lat, lon, gsd)
    with RasterSource(tmp_path / "a.tif") as raster:
        tile, mask = raster.cut_tile(lat, lon, 80, gsd)
        assert raster.gsd_m == pytest.approx(gsd, rel=1e-5)
    assert mask.all() and np.abs(tile[1:-1, 1:-1].astype(int) - rgba[1:-1, 1:-1, :3]).max() <= 2


def test_other_files_have_no_mark_and_nothing_is_half_written(tmp_path):
    (tmp_path / "b.tif").write_text("no raster")
    assert geotiff_mark(tmp_path / "b.tif") is None and geotiff_mark(tmp_path / "none.tif") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_tile_geotiff(tmp_path / "file" / "c.tif", picture(8), 45.0, 1.0, 1.0)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b.tif", "file"]
