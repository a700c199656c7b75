from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp, Resampling
from rasterio.transform import Affine
from rasterio.warp import transform

from cvgeo.data.sources.imagery import find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.raster import RasterSource
from cvgeo.errors import InputError
from tests.benchmarks.machine import forget_peak, peak_mib

SHARED = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "orthophotos"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test data is not here")
SIZE = 600


def write_raster(path, bands, crs, affine, **profile):
    bands = np.atleast_3d(bands) if bands.ndim == 2 else bands
    colours = profile.pop("colours", None)
    overviews = profile.pop("overviews", ())
    palette = profile.pop("palette", None)
    count, height, width = bands.shape
    options = {"driver": "GTiff", "dtype": bands.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", crs=crs, transform=affine, **options, **profile) as raster:
        raster.write(bands)
        if colours:
            raster.colorinterp = colours
        if palette:
            raster.write_colormap(1, palette)
        if overviews:
            raster.build_overviews(overviews, Resampling.average)
    return path


def north_up(crs, lat, lon, step, size=SIZE):
    """An affine with the position in the middle of a raster of this size."""
    (x,), (y,) = transform("EPSG:4326", crs, [lon], [lat])
    return Affine(step, 0, x - step * size / 2, 0, -step, y + step * size / 2)


def spots_raster(path, crs, lat, lon, step, spots, sigma, **profile):
    """A raster with a soft white spot at each of some positions around its middle (metres north, metres east)."""
    turn = profile.pop("turn", 0.0)
    affine = north_up(crs, lat, lon, step) @ Affine.rotation(turn, (SIZE / 2, SIZE / 2))
    local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84"
    xs, ys = transform(local, crs, [east for _, east in spots], [north for north, _ in spots])
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    picture = np.zeros((SIZE, SIZE))
    for x, y in zip(xs, ys, strict=True):
        column, row = ~affine @ (x, y)
        picture += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma**2))
    band = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return write_raster(path, np.stack([band] * 3), crs, affine, **profile)


def spot_positions(tile, expected, reach=14):
    """Centroids of the spots nearest to the expected pixels (row, column, counted from the corner)."""
    grey = tile[..., 0].astype(float)
    found = []
    for row, column in expected:
        top, left = round(row) - reach, round(column) - reach
        part = grey[top : top + 2 * reach, left : left + 2 * reach]
        rows, columns = np.mgrid[top : top + 2 * reach, left : left + 2 * reach] + 0.5
        found.append(((part * rows).sum() / part.sum(), (part * columns).sum() / part.sum()))
    return np.array(found)


PLACES = {
    "utm": ("EPSG:32631", 48.0, 3.0, 0.25, 0.0),
    "utm, edge of its zone at 60 north": ("EPSG:32631", 60.0, 5.999, 0.25, 0.0),
    "utm, beyond its zone": ("EPSG:32631", 60.0, 8.0, 0.25, 0.0),
    "utm, equator": ("EPSG:32631", 0.0002, 0.1, 0.25, 0.0),
    "utm, south": ("EPSG:32750", -33.0, 115.2, 0.25, 0.0),
    "web mercator, 60 north": ("EPSG:3857", 60.0, 25.0, 0.5, 0.0),
    "world mercator": ("EPSG:3395", -15.0, -51.0, 0.25, 0.0),
    "geographic": ("EPSG:4326", 48.0, 11.0, 2.5e-6, 0.0),
    "polar": ("EPSG:3413", 80.0, 20.0, 0.25, 0.0),
    "date line": ("EPSG:3832", 10.0, 179.9999, 0.25, 0.0),
    "turned grid": ("EPSG:32631", 48.0, 3.0, 0.25, 33.0),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("relative", "overviews"), [(1.0, ()), (0.6, ()), (2.6, ()), (4.0, (2, 4))])
def test_tiles_lie_where_the_exact_projection_says(tmp_path, place, relative, overviews):
    crs, lat, lon, step, turn = PLACES[place]
    with RasterSource(
        write_raster(tmp_path / "a.tif", np.zeros((3, SIZE, SIZE), np.uint8), crs, north_up(crs, lat, lon, step))
    ) as one:
        ground = one.gsd_m
    gsd, size = ground * relative, int(0.55 * SIZE / relative)
    spread = 0.36 * size * gsd
    spots = [(north * spread, east * spread) for north in (-1, 0, 1) for east in (-1, 0, 1)]
    # Wide enough to be sampled well in the raster, narrow enough to be told apart in the tile.
    path = spots_raster(
        tmp_path / "b.tif", crs, lat, lon, step, spots, 2.5 * max(relative, 1), turn=turn, overviews=overviews
    )
    with RasterSource(path) as raster:
        assert raster.gsd_m == pytest.approx(ground, rel=0.02)
        tile, mask = raster.cut_tile(lat, lon, size, gsd)
    assert tile.shape == (size, size, 3) and mask.all()
    expected = np.array([(size / 2 - north / gsd, size / 2 + east / gsd) for north, east in spots])
    off = spot_positions(tile, expected, reach=min(14, int(0.13 * size))) - expected
    assert np.abs(off).max() < 0.25, off


def test_a_tile_too_large_for_an_affine_map_follows_the_projection(tmp_path):
    crs, lat, lon, step = "EPSG:3413", 88.0, 20.0, 60.0
    spots = [(north * 9000.0, east * 9000.0) for north in (-1, 0, 1) for east in (-1, 0, 1)]
    path = spots_raster(tmp_path / "wide.tif", crs, lat, lon, step, spots, 2.5)
    (x,), (y,) = transform("EPSG:4326", "EPSG:4326", [lon], [lat])
    with RasterSource(path) as raster:
        tile, _ = raster.cut_tile(y, x, 400, 60.0)
    expected = np.array([(200 - north / 60, 200 + east / 60) for north, east in spots])
    assert np.abs(spot_positions(tile, expected) - expected).max() < 0.5


def test_agrees_with_gdal_warping(tmp_path):
    from rasterio.vrt import WarpedVRT

    generator = np.random.default_rng(0)
    import cv2

    noise = cv2.GaussianBlur(generator.integers(0, 256, (SIZE, SIZE, 3)).astype(np.float32), (0, 0), 3)
    noise = ((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8).transpose(2, 0, 1)
    lat, lon = 60.0, 5.9
    path = write_raster(tmp_path / "noise.tif", noise, "EPSG:32631", north_up("EPSG:32631", lat, lon, 0.25))
    size, gsd = 200, 0.3
    half = size * gsd / 2
    local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84"
    view = {"crs": local, "transform": Affine(gsd, 0, -half, 0, -gsd, half), "width": size, "height": size}
    with rasterio.open(path) as raster, WarpedVRT(raster, resampling=Resampling.bilinear, **view) as warped:
        reference = warped.read().transpose(1, 2, 0).astype(int)
    with RasterSource(path) as raster:
        tile, _ = raster.cut_tile(lat, lon, size, gsd)
    assert np.abs(tile.astype(int) - reference).mean() < 1


def flat(tmp_path, value=100, **options):
    bands = np.full((3, 200, 200), value, np.uint8)
    return write_raster(tmp_path / "flat.tif", bands, "EPSG:32631", north_up("EPSG:32631", 48, 3, 0.5, 200), **options)


def test_edges_and_outside(tmp_path):
    with RasterSource(flat(tmp_path)) as raster:
        assert raster.gsd_m == pytest.approx(0.5, rel=2e-3)
        south, west, north, east = raster.bounds_latlon
        assert south < 48 < north and west < 3 < east
        assert raster.covers(48, 3) and raster.covers(48, 3, 49) and not raster.covers(48, 3, 51)
        assert not raster.covers(48, 3.1) and not raster.covers(-48, -177)
        tile, mask = raster.cut_tile(48, 3, 400, 0.5)
        assert mask.sum() == pytest.approx(200 * 200, rel=0.01) and mask[200, 200] and not mask[10, 10]
        assert (tile[mask] == 100).all() and (tile[~mask] == 0).all()
        for lat, lon in ((48, 3.1), (-48, -177), (89, 0), (0, 180)):
            tile, mask = raster.cut_tile(lat, lon, 32, 0.5)
            assert not mask.any() and not tile.any()


def test_nodata_and_alpha_make_the_mask(tmp_path):
    bands = np.full((4, 200, 200), 90, np.uint8)
    bands[:3, :, :100] = 7
    bands[3] = 255
    affine = north_up("EPSG:32631", 48, 3, 0.5, 200)
    with RasterSource(write_raster(tmp_path / "nodata.tif", bands[:3], "EPSG:32631", affine, nodata=7)) as raster:
        _, mask = raster.cut_tile(48, 3, 100, 0.5)
    assert not mask[:, :48].any() and mask[:, 52:].all()
    bands[3, :100] = 0
    colours = [ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha]
    with RasterSource(write_raster(tmp_path / "alpha.tif", bands, "EPSG:32631", affine, colours=colours)) as raster:
        tile, mask = raster.cut_tile(48, 3, 100, 0.5)
    assert not mask[:48].any() and mask[52:].all() and (tile[60, 70] == 90).all()


def test_bands_become_rgb(tmp_path):
    affine = north_up("EPSG:32631", 48, 3, 0.5, 64)

    def centre(name, bands, **options):
        with RasterSource(write_raster(tmp_path / f"{name}.tif", bands, "EPSG:32631", affine, **options)) as raster:
            return raster.cut_tile(48, 3, 32, 0.5)[0][16, 16].tolist()

    flat = np.ones((4, 64, 64), np.uint8) * np.array([10, 20, 30, 40], np.uint8)[:, None, None]
    assert centre("grey", flat[:1]) == [10, 10, 10]
    assert centre(
        "four", flat, colours=[ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.undefined]
    ) == [10, 20, 30]
    assert centre("bgr", flat[:3], colours=[ColorInterp.blue, ColorInterp.green, ColorInterp.red]) == [30, 20, 10]
    assert centre("two", flat[:2], colours=[ColorInterp.gray, ColorInterp.undefined]) == [10, 10, 10]
    assert centre("palette", flat[:1], palette={10: (1, 2, 3, 255)}) == [1, 2, 3]


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.float32])
def test_wide_samples_are_stretched_alike_in_all_tiles(tmp_path, dtype):
    ramp = np.linspace(100, 2100, 400)[None, :].repeat(400, 0)
    bands = np.stack([ramp, ramp, ramp]).astype(dtype)
    path = write_raster(tmp_path / "wide.tif", bands, "EPSG:32631", north_up("EPSG:32631", 48, 3, 0.5, 400))
    with RasterSource(path) as raster:
        tile, mask = raster.cut_tile(48, 3, 300, 0.5)
        part, _ = raster.cut_tile(48, 3, 100, 0.5)
    assert mask.all() and 28 < tile[:, 0].mean() < 36 and 218 < tile[:, -1].mean() < 228
    np.testing.assert_allclose(part.astype(int), tile[100:200, 100:200].astype(int), atol=1)


def test_not_a_number_is_no_data(tmp_path):
    bands = np.full((1, 64, 64), 0.5, np.float32)
    bands[:, :, 40:] = np.nan
    path = write_raster(tmp_path / "nan.tif", bands, "EPSG:32631", north_up("EPSG:32631", 48, 3, 0.5, 64))
    with RasterSource(path) as raster:
        _, mask = raster.cut_tile(48, 3, 32, 0.5)
    assert mask[:, :22].all() and not mask[:, 26:].any()


def test_faults(tmp_path):
    bands = np.zeros((3, 32, 32), np.uint8)
    affine = north_up("EPSG:32631", 48, 3, 0.5, 32)
    with pytest.raises(
        InputError, match=r"no.tif: has no coordinate reference system; give it one: gdal_edit.py -a_srs"
    ):
        RasterSource(write_raster(tmp_path / "no.tif", bands, None, affine))
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), pytest.raises(InputError, match=r"has no georeference"):
        RasterSource(write_raster(tmp_path / "id.tif", bands, "EPSG:32631", Affine.identity()))
    with pytest.raises(InputError, match=r"missing.tif: no such file; check the spelling"):
        RasterSource(tmp_path / "missing.tif")
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(InputError, match=r"text.tif: cannot be read as a raster: .*not recognized"):
        RasterSource(tmp_path / "text.tif")
    whole = write_raster(tmp_path / "cut.tif", bands + 9, "EPSG:32631", affine, compress="deflate").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.tif: .*"), RasterSource(tmp_path / "cut.tif") as raster:
        raster.cut_tile(48, 3, 32, 0.5)


def test_sheets_are_put_together(tmp_path):
    affine = north_up("EPSG:32631", 48, 3, 0.5, 200)
    bands = np.full((3, 200, 200), 50, np.uint8)
    write_raster(tmp_path / "west.tif", bands[:, :, :100], "EPSG:32631", affine)
    write_raster(tmp_path / "east.tif", bands[:, :, 100:] * 2, "EPSG:32631", affine @ Affine.translation(100, 0))
    assert [one.name for one in find_imagery([tmp_path])] == ["east.tif", "west.tif"]
    with Mosaic(find_imagery([tmp_path / "west.tif", tmp_path / "east.tif"])) as mosaic:
        tile, mask = mosaic.cut_tile(48, 3, 100, 0.5)
        assert mask.all() and (tile[:, :48] == 50).all() and (tile[:, 52:] == 100).all()
        assert mosaic.shows(48, 3) and not mosaic.shows(48.1, 3)
        assert not mosaic.cut_tile(48.1, 3, 32, 0.5)[1].any()
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none: no raster in this folder"):
        find_imagery([tmp_path / "none"])


def test_threads_get_the_same_tiles(tmp_path):
    generator = np.random.default_rng(0)
    bands = generator.integers(0, 256, (3, 400, 400), dtype=np.uint8)
    path = write_raster(
        tmp_path / "n.tif",
        bands,
        "EPSG:32631",
        north_up("EPSG:32631", 48, 3, 0.5, 400),
        tiled=True,
        blockxsize=64,
        blockysize=64,
    )
    places = [(48 + north * 1e-5, 3 + east * 1e-5) for north in range(-10, 10, 4) for east in range(-10, 10, 4)]
    found = {}
    with Mosaic(find_imagery([path])) as mosaic:
        alone = [mosaic.cut_tile(*place, 64, 0.5)[0] for place in places]

        def work(start):
            for row in range(start, len(places), 4):
                found[row] = mosaic.cut_tile(*places[row], 64, 0.5)[0]

        threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    assert all(np.array_equal(found[row], tile) for row, tile in enumerate(alone))


def test_many_tiles_of_a_large_raster_take_little_time_and_memory(tmp_path):
    side = 6000
    affine = north_up("EPSG:32631", 48, 3, 0.25, side)
    path = tmp_path / "large.tif"
    options = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": side, "width": side, "tiled": True}
    with rasterio.open(path, "w", crs="EPSG:32631", transform=affine, compress="deflate", **options) as raster:
        strip = np.zeros((3, 512, side), np.uint8)
        for top in range(0, side, 512):
            rows = min(512, side - top)
            raster.write(strip[:, :rows] + top // 512, window=rasterio.windows.Window(0, top, side, rows))
    with RasterSource(path) as raster:
        raster.cut_tile(48, 3, 256, 0.25)
        forget_peak()
        before, started = peak_mib(), time.process_time()
        for step in range(60):
            assert raster.cut_tile(48 + (step - 30) * 1e-4, 3, 256, 0.25)[1].all()
        assert (time.process_time() - started) / 60 < 0.05
        assert peak_mib() - before < 60  # the raster has 103 MiB


@needs_shared
def test_every_real_raster_gives_tiles():
    rasters = sorted(SHARED.rglob("*.tif"))
    assert len(rasters) == 8
    for path in rasters:
        with RasterSource(path) as raster:
            south, west, north, east = raster.bounds_latlon
            assert 0.09 < raster.gsd_m < 0.5
            size = int(0.5 * min(raster.size))
            tile, mask = raster.cut_tile((south + north) / 2, (west + east) / 2, size, raster.gsd_m)
            assert mask.mean() > 0.99 and tile.std() > 5, path
            assert raster.covers((south + north) / 2, (west + east) / 2, size * raster.gsd_m / 2)
            _, mask = raster.cut_tile((south + north) / 2, (west + east) / 2, 128, raster.gsd_m * max(raster.size) / 64)
            assert 0.03 < mask.mean() < 0.4


def test_a_truncated_raster_is_one_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (3, 512, 512), dtype=np.uint8)
    affine = north_up("EPSG:32631", 48, 3, 0.5, 512)
    whole = write_raster(tmp_path / "whole.tif", noise, "EPSG:32631", affine, overviews=(2,))
    cut = tmp_path / "cut.tif"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    command = [sys.executable, "-m", "cvgeo", "build-dataset", "tiles", "--aerial", "cut.tif", "-o", "x"]
    environment = {**os.environ, "CVGEO_STATE": str(tmp_path), "CVGEO_CONFIG_DIR": str(tmp_path)}
    command += ["-j", "1", "--gsd", "0.5", "--tile-size", "128"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 3 and not (tmp_path / "x").exists()
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("cvgeo: cut.tif: "), done.stderr


def paint_overview(path, factor, value):
    """Build an overview of a raster and paint it, so that what is read from it shows."""
    with rasterio.open(path, "r+") as raster:
        raster.build_overviews([factor], Resampling.nearest)
    with rasterio.open(path, "r+", overview_level=0) as overview:
        overview.write(np.full((3, overview.height, overview.width), value, np.uint8))


def test_overviews_are_what_coarse_tiles_are_read_from(tmp_path):
    path = flat(tmp_path, 100, tiled=True, blockxsize=64, blockysize=64)
    paint_overview(path, 4, 200)
    with RasterSource(path) as raster:
        for gsd, value in ((0.25, 100), (0.5, 100), (0.6, 100), (2.0, 200), (2.5, 200)):
            assert (raster.cut_tile(48, 3, 24, gsd)[0] == value).all(), gsd


def test_overviews_of_a_cloud_optimised_geotiff_are_used(tmp_path):
    from rasterio.shutil import copy

    base = flat(tmp_path, 100)
    paint_overview(base, 4, 200)
    options = {"driver": "COG", "blocksize": 64, "overviews": "FORCE_USE_EXISTING", "compress": "deflate"}
    copy(base, tmp_path / "cog.tif", **options)
    with RasterSource(tmp_path / "cog.tif") as raster:
        assert (raster.cut_tile(48, 3, 64, 0.5)[0] == 100).all() and (raster.cut_tile(48, 3, 24, 2.0)[0] == 200).all()


def write_vrt(path, files, affine, side, nodata=None):
    """A VRT of three bands over files (name, left, width), all of the same height."""
    bands = []
    for band, colour in enumerate(("Red", "Green", "Blue"), start=1):
        none = "" if nodata is None else f"<NoDataValue>{nodata}</NoDataValue>"
        parts = [
            f'<ComplexSource><SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{side}"/>'
            f'<DstRect xOff="{left}" yOff="0" xSize="{width}" ySize="{side}"/></ComplexSource>'
            for name, left, width in files
        ]
        text = f"<ColorInterp>{colour}</ColorInterp>{none}{''.join(parts)}"
        bands.append(f'<VRTRasterBand dataType="Byte" band="{band}">{text}</VRTRasterBand>')
    place = ", ".join(repr(value) for value in affine.to_gdal())
    head = f"<SRS>EPSG:32631</SRS><GeoTransform>{place}</GeoTransform>"
    path.write_text(f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{head}{"".join(bands)}</VRTDataset>')
    return path


def test_a_mosaic_with_a_gap_is_masked_there(tmp_path):
    affine = north_up("EPSG:32631", 48, 3, 0.5, 300)
    for name, left, value in (("west", 0, 50), ("east", 200, 150)):
        bands = np.full((3, 300, 100), value, np.uint8)
        write_raster(tmp_path / f"{name}.tif", bands, "EPSG:32631", affine @ Affine.translation(left, 0))
    files = [("west.tif", 0, 100), ("east.tif", 200, 100)]
    path = write_vrt(tmp_path / "both.vrt", files, affine, 300, nodata=0)
    with Mosaic(find_imagery([path])) as mosaic:
        tile, mask = mosaic.cut_tile(48, 3, 200, 0.5)
        assert (tile[:, :46] == 50).all() and (tile[:, 154:] == 150).all()
        assert mask[:, :46].all() and not mask[:, 54:146].any() and mask[:, 154:].all()
    # The gap is filled by what is named behind it.
    bands = np.full((3, 300, 300), 99, np.uint8)
    write_raster(tmp_path / "under.tif", bands, "EPSG:32631", affine)
    with Mosaic(find_imagery([path, tmp_path / "under.tif"])) as mosaic:
        tile, mask = mosaic.cut_tile(48, 3, 200, 0.5)
        assert mask.all() and (tile[:, 54:146] == 99).all() and (tile[:, :46] == 50).all()
    (tmp_path / "east.tif").unlink()
    with Mosaic(find_imagery([path])) as mosaic, pytest.raises(InputError, match=r"both.vrt: is damaged: .*east.tif"):
        mosaic.cut_tile(48, 3, 200, 0.5)


@pytest.mark.parametrize(
    ("crs", "west"),
    [
        ("EPSG:4326", 179.99),
        ("EPSG:4326", -180.01),
        ("EPSG:4326", 179.98),
        ("EPSG:4326", -180.0),
        ("EPSG:3857", 179.99),
    ],
)
def test_a_raster_beside_and_across_the_date_line(tmp_path, crs, west):
    """0.02 degrees wide, from `west` on; a column's grey tells its longitude."""
    side, step, lat = 400, 0.02 / 400, 10.0
    band = np.repeat(np.linspace(20, 219, side).astype(np.uint8)[None], side, axis=0)
    if crs == "EPSG:4326":
        affine = Affine(step, 0, west, 0, -step, lat + step * side / 2)
    else:
        metre = 20037508.342789244 / 180
        (_,), (y,) = transform("EPSG:4326", crs, [0.0], [lat])
        affine = Affine(step * metre, 0, west * metre, 0, -step * metre, y + step * metre * side / 2)
    path = write_raster(tmp_path / "a.tif", np.stack([band] * 3), crs, affine)
    with Mosaic(find_imagery([path])) as mosaic:
        assert 4.5 < mosaic.gsd_m < 6
        for share in (0.25, 0.5, 0.75):
            lon = (west + 0.02 * share + 180) % 360 - 180
            tile, mask = mosaic.cut_tile(lat, lon, 32, mosaic.gsd_m)
            assert mosaic.shows(lat, lon) and mask.all(), (share, lon)
            assert abs(tile[16, 15:17, 0].mean() - (20 + 199 * share)) < 2
        for outside in (west - 0.005, west + 0.025):
            lon = (outside + 180) % 360 - 180
            assert not mosaic.shows(lat, lon) and not mosaic.cut_tile(lat, lon, 32, mosaic.gsd_m)[1].any()
        bounds = mosaic.bounds[0]
        assert bounds[3] - bounds[1] == pytest.approx(0.02, rel=0.01)
