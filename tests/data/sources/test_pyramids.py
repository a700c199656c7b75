from __future__ import annotations

import sqlite3
import time

import numpy as np
import pytest
from rasterio.warp import transform

from cvgeo.data.images import encode_image
from cvgeo.data.sources import web
from cvgeo.data.sources.imagery import ImageryOptions, find_imagery, parse_area
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.data.sources.pyramid import PyramidSource, plain_attribution, tile_parts
from cvgeo.data.sources.web import WebStore
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.geodesy import tile_of

ZOOM, SIDE = 15, 40075016.685578488
GREY = encode_image(np.full((256, 256, 3), 90, np.uint8), ".png")
PLACES = [(0.0, 20.0), (60.0, 5.9999), (-33.9, 151.2), (48.1, 11.6), (10.0, 179.9999)]


def pattern(lat, lon):
    """A smooth function of position, of about 30 m a radian: grey levels 28 to 228."""
    return 128 + 50 * np.sin(lat * 4000) + 50 * np.sin(lon * 3000)


def painted(address, size=256, step=1.0):
    """The map tile that shows the pattern, each pixel by its own inverse projection (rasterio, not the program's)."""
    zoom, x, y = address
    at = (np.arange(size) + 0.5) / size
    columns, rows = np.meshgrid(x + at, y + at)
    east, north = columns / 2**zoom * SIDE - SIDE / 2, SIDE / 2 - rows / 2**zoom * SIDE
    lon, lat = transform("EPSG:3857", "EPSG:4326", east.ravel(), north.ravel())
    grey = pattern(np.array(lat), np.array(lon)).reshape(size, size)
    return np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)


def around(lat, lon, zoom=ZOOM):
    x, y = (int(value) for value in tile_of(lat, lon, zoom))
    count = 2**zoom
    return [(zoom, (x + right) % count, y + down) for right in (-1, 0, 1) for down in (-1, 0, 1)]


def tiles_of(lat, lon, size=256):
    return {address: encode_image(painted(address, size), ".png") for address in around(lat, lon)}


def write_mbtiles(path, tiles, **metadata):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE metadata (name TEXT, value TEXT)")
        database.execute("CREATE TABLE tiles (zoom_level INT, tile_column INT, tile_row INT, tile_data BLOB)")
        database.executemany("INSERT INTO metadata VALUES (?, ?)", metadata.items())
        rows = [(zoom, x, 2**zoom - 1 - y, data) for (zoom, x, y), data in tiles.items()]
        database.executemany("INSERT INTO tiles VALUES (?, ?, ?, ?)", rows)
    database.close()
    return path


def write_pmtiles(path, tiles, kind="PNG", **metadata):
    tile = pytest.importorskip("pmtiles.tile")
    from pmtiles.writer import Writer

    zooms = [address[0] for address in tiles]
    ends = np.array([[*tile_of_corner(address, 1), *tile_of_corner(address, 0)] for address in tiles])
    with open(path, "wb") as handle:
        writer = Writer(handle)
        for address in sorted(tiles, key=lambda one: tile.zxy_to_tileid(*one)):
            writer.write_tile(tile.zxy_to_tileid(*address), tiles[address])
        header = {"tile_type": tile.TileType[kind], "tile_compression": tile.Compression.NONE}
        header |= {"min_zoom": min(zooms), "max_zoom": max(zooms)}
        for name, value in zip(("min_lat", "max_lon", "max_lat", "min_lon"), ends.T, strict=True):
            header[f"{name}_e7"] = int((value.min() if "min" in name else value.max()) * 1e7)
        writer.finalize(header, metadata)
    return path


def tile_of_corner(address, far):
    zoom, x, y = address
    east, north = (x + far) / 2**zoom * SIDE - SIDE / 2, SIDE / 2 - (y + far) / 2**zoom * SIDE
    (lon,), (lat,) = transform("EPSG:3857", "EPSG:4326", [east], [north])
    return lat, lon


def write_folder(path, tiles, tms=False):
    for (zoom, x, y), data in tiles.items():
        file = path / str(zoom) / str(x) / f"{2**zoom - 1 - y if tms else y}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return path


def off_by(tile, lat, lon, gsd):
    """How many pixels a tile is off the exact projection: the least over shifts of the literal picture, and the fit."""
    size = len(tile)
    local = f"+proj=aeqd +lat_0={lat} +lon_0={lon} +datum=WGS84"
    at = (np.arange(size) + 0.5 - size / 2) * gsd
    errors = {}
    for down, right in np.ndindex(5, 5):
        shift = (down - 2) * 0.25, (right - 2) * 0.25
        east, north = np.meshgrid(at + shift[1] * gsd, -at - shift[0] * gsd)
        there = transform(local, "EPSG:4326", east.ravel(), north.ravel())
        exact = pattern(np.array(there[1]), np.array(there[0])).reshape(size, size)
        errors[shift] = np.abs(tile[..., 0] - exact)[4:-4, 4:-4].mean()
    best = min(errors, key=errors.get)
    return float(np.hypot(*best)), errors[best]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("kind", ["mbtiles", "folder", "tms", "pmtiles"])
def test_tiles_of_a_pyramid_lie_where_the_projection_says(tmp_path, place, kind):
    lat, lon = place
    tiles = tiles_of(lat, lon)
    if kind == "mbtiles":
        path = write_mbtiles(tmp_path / "a.mbtiles", tiles)
    elif kind == "pmtiles":
        path = write_pmtiles(tmp_path / "a.pmtiles", tiles)
    else:
        path = write_folder(tmp_path / "map", tiles, kind == "tms")
    with Mosaic(find_imagery([path], ImageryOptions(tms=kind == "tms"))) as mosaic:
        gsd = SIDE / 256 / 2**ZOOM * np.cos(np.radians(lat)) * 0.9
        tile, mask = mosaic.cut_tile(lat, lon, 128, gsd)
        assert mask.all() and mosaic.shows(lat, lon)
        # The header of a PMTiles file across the date line spans the earth.
        assert not mosaic.shows(lat, lon - 1) or (kind == "pmtiles" and lon > 179)
        off, error = off_by(tile, lat, lon, gsd)
    assert off <= 0.36 and error < 3, (off, error)


def test_the_level_that_fits_is_read(tmp_path):
    tiles = {}
    for zoom, grey in ((14, 40), (15, 80), (16, 160)):
        for address in around(48.1, 11.6, zoom):
            tiles[address] = encode_image(np.full((256, 256, 3), grey, np.uint8), ".png")
    path = write_mbtiles(tmp_path / "a.mbtiles", tiles, attribution="&copy; <a href='x'>The survey</a>")
    with Mosaic(find_imagery([path])) as mosaic:
        assert mosaic.attribution == "© The survey"
        for factor, grey in ((0.5, 160), (1.0, 160), (2.0, 80), (1.7, 80), (4.0, 40)):
            assert mosaic.cut_tile(48.1, 11.6, 32, mosaic.gsd_m * factor)[0][16, 16, 0] == grey, factor
    with Mosaic(find_imagery([path], ImageryOptions(zoom=15))) as mosaic:
        assert mosaic.cut_tile(48.1, 11.6, 32, mosaic.gsd_m)[0][16, 16, 0] == 80
    with pytest.raises(InputError, match="has no tiles of zoom 9, only of 14 to 16; give another --zoom"):
        Mosaic(find_imagery([path], ImageryOptions(zoom=9)))


def test_bad_packed_pyramids_are_one_line(tmp_path):
    tiles = tiles_of(48.1, 11.6)
    whole = write_mbtiles(tmp_path / "a.mbtiles", tiles).read_bytes()
    (tmp_path / "half.mbtiles").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "text.mbtiles").write_bytes(b"not a database" * 100)
    (tmp_path / "text.pmtiles").write_bytes(b"not an archive" * 100)
    packed = write_pmtiles(tmp_path / "a.pmtiles", tiles).read_bytes()
    (tmp_path / "half.pmtiles").write_bytes(packed[: len(packed) // 2])
    write_mbtiles(tmp_path / "vector.mbtiles", tiles, format="pbf")
    write_mbtiles(tmp_path / "gzip.mbtiles", dict.fromkeys(tiles, b"\x1f\x8b00"))
    write_pmtiles(tmp_path / "vector.pmtiles", tiles, "MVT")
    some = next(iter(tiles))
    write_mbtiles(tmp_path / "blob.mbtiles", {**tiles, some: tiles[some][:300]})
    write_mbtiles(tmp_path / "sizes.mbtiles", {**tiles, some: encode_image(painted(some, 512), ".png")})
    faults = {
        "half.mbtiles": "damaged",
        "text.mbtiles": "is damaged or no MBTiles file",
        "text.pmtiles": "is no PMTiles file of version 3",
        "half.pmtiles": "truncated",
        "vector.mbtiles": "holds vector tiles",
        "gzip.mbtiles": "holds vector tiles",
        "vector.pmtiles": "holds vector tiles",
        "blob.mbtiles": "truncated",
        "sizes.mbtiles": "others of the same pyramid have",
        "none.mbtiles": "no such file",
    }
    for name, fault in faults.items():
        with pytest.raises(InputError, match=fault) as caught, Mosaic(find_imagery([tmp_path / name])) as mosaic:
            for size in (256, 700):
                mosaic.cut_tile(48.1, 11.6, size, 3.2)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_alpha_and_missing_tiles_make_the_mask(tmp_path):
    tiles = tiles_of(48.1, 11.6)
    zoom, x, y = (ZOOM, *(int(value) for value in tile_of(48.1, 11.6, ZOOM)))
    clear = np.dstack([painted((zoom, x, y)), np.zeros((256, 256), np.uint8)])
    tiles[zoom, x, y] = encode_image(clear, ".png")
    del tiles[zoom, x + 1, y]
    with Mosaic(find_imagery([write_mbtiles(tmp_path / "a.mbtiles", tiles)])) as mosaic:
        north, west = tile_of_corner((zoom, x, y), 0)
        south, east = tile_of_corner((zoom, x, y), 1)
        for lon, seen in (
            ((west + east) / 2, False),
            (east + (east - west) / 2, False),
            (west - (east - west) / 2, True),
        ):
            assert (mosaic.cut_tile((north + south) / 2, lon, 64, 3.0)[1] == seen).all()


def test_many_tiles_make_few_parts():
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(300), np.arange(200)))
    parts = tile_parts(x + 1000, y + 2000, 14)
    assert len(parts) <= 2048
    whole = tile_parts(np.array([1000, 1299]), np.array([2000, 2199]), 14)
    np.testing.assert_allclose(parts[:, :2].min(axis=0), whole[:, :2].min(axis=0))
    np.testing.assert_allclose(parts[:, 2:].max(axis=0), whole[:, 2:].max(axis=0))
    assert plain_attribution(None) == ""


def path_of(address):
    return "/{}/{}/{}.png?key=secret".format(*address)


def test_web_tiles_are_fetched_once_and_serve_offline(tile_server, tmp_path):
    tiles = tiles_of(48.1, 11.6)
    tile_server.answers = {path_of(address): [(200, {}, data)] for address, data in tiles.items()}
    hole = around(48.1, 11.6)[0]
    del tile_server.answers[path_of(hole)]

    def cut():
        with PyramidSource(WebStore(tile_server.template, rate=100, cache=tmp_path)) as source:
            assert source.attribution == "127.0.0.1" and "secret" not in source.name
            return source.cut_tile(48.1, 11.6, 600, 3.2)

    tile, mask = cut()
    assert 0.7 < mask.mean() < 1 and off_by(cut()[0][200:400, 200:400], 48.1, 11.6, 3.2)[0] <= 0.36
    assert len(tile_server.asked) == len({path for path, *_ in tile_server.asked}) > 9
    assert {agent for _, agent, _ in tile_server.asked} == {web.USER_AGENT} and web.USER_AGENT.startswith("cvgeo/")
    times = sorted(at for *_, at in tile_server.asked)
    assert times[-1] - times[0] >= 0.8 * (len(times) - 1) / 100
    tile_server.shutdown()
    tile_server.server_close()
    again, seen = cut()
    assert np.array_equal(again, tile) and np.array_equal(seen, mask)


def store_of(tile_server, tmp_path):
    return WebStore(tile_server.template, rate=100, cache=tmp_path, first_pause_s=0.02)


def test_transient_faults_are_tried_again(tile_server, tmp_path):
    address = around(48.1, 11.6)[4]
    good = tiles_of(48.1, 11.6)[address]
    wrong = [(500, {}, b""), (200, {"Content-Length": len(good)}, good[:100]), (200, {}, good[:200])]
    tile_server.answers[path_of(address)] = [*wrong, (200, {}, good)]
    store = store_of(tile_server, tmp_path)
    assert store.read(address) == good and len(tile_server.asked) == 4
    assert store.read(address) == good and len(tile_server.asked) == 4
    other = around(48.1, 11.6)[5]
    tile_server.answers[path_of(other)] = [(429, {"Retry-After": "1"}, b""), (200, {}, good)]
    started = time.monotonic()
    assert store.read(other) == good and time.monotonic() - started >= 0.9


def test_faults_of_servers_are_one_line(tile_server, tmp_path):
    address = around(48.1, 11.6)[4]
    faults = [
        ((503, {}, b""), r"cannot be fetched \(status 503 .*call again later"),
        ((429, {"Retry-After": "3600"}, b""), "come back in 3600 s"),
        ((403, {}, b""), r"the server refuses \(status 403 Forbidden\); check the key"),
        ((200, {}, b"\x1f\x8b0000"), "holds vector tiles"),
        ((200, {}, b"<html>not a tile</html>"), "cannot be fetched"),
    ]
    for answer, fault in faults:
        tile_server.answers[path_of(address)] = [answer]
        with pytest.raises(InputError, match=fault) as caught:
            store_of(tile_server, tmp_path).read(address)
        assert "secret" not in str(caught.value) and "\n" not in str(caught.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    tile_server.answers[path_of(address)] = [(200, {}, encode_image(np.zeros((300, 256, 3), np.uint8), ".png"))]
    with (
        pytest.raises(InputError, match="has 256x300 pixels"),
        PyramidSource(store_of(tile_server, tmp_path)) as source,
    ):
        source.cut_tile(48.1, 11.6, 64, 3.2)


def test_larger_tiles_of_a_server_are_recognised(tile_server, tmp_path):
    for address in around(48.1, 11.6) + around(48.1, 11.6, ZOOM - 1):
        tile_server.answers[path_of(address)] = [(200, {}, encode_image(painted(address, 512), ".png"))]
    with PyramidSource(store_of(tile_server, tmp_path)) as source:
        tile, mask = source.cut_tile(48.1, 11.6, 128, 2.8)
    assert mask.all() and off_by(tile, 48.1, 11.6, 2.8)[0] <= 0.36


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://host/{z}/{x}.png", r"the URL has no \{y\}; write it like"),
        ("https://host/tile.png", r"no \{z\} and no \{x\} and no \{y\}"),
        ("ftp://host/{z}/{x}/{y}.png", "by http or https only"),
        ("file:///{z}/{x}/{y}.png", "by http or https only"),
        ("https://host/{z}/{x}/{y}.png?t={time}", r"\{time\}, which is unknown"),
    ],
)
def test_urls_that_are_no_templates(url, fault):
    with pytest.raises(UsageError, match=fault):
        find_imagery([url])


def test_urls_count_rows_and_servers(tmp_path):
    assert WebStore("https://{s}.h/{z}/{x}/{-y}", cache=tmp_path).url((3, 2, 1)) == "https://a.h/3/2/6"
    assert WebStore("https://h/{z}/{x}/{y}", tms=True, cache=tmp_path).url((3, 2, 1)) == "https://h/3/2/6"
    assert web._retry_after("Tue, 24 Nov 2026 10:00:30 GMT", lambda: 1795514400.0) == 30.0
    assert web._retry_after("soon") is None and web._retry_after(None) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("120,10,121,11", "south 120 is out of range; the order is south,west,north,east: latitude, then longitude"),
        ("1,2,3", "is no area; give four numbers"),
        ("2,1,1,2", "south 2 is not below north 1"),
        ("1,2,3,2", "has no width"),
        ("nan,2,3,4", "out of range"),
    ],
)
def test_areas_that_are_none(text, fault):
    with pytest.raises(UsageError, match=fault):
        parse_area(text)


def test_an_area_may_cross_the_date_line():
    assert parse_area("-17, 179.5, -16, -179.5") == (-17, 179.5, -16, 180.5)


@pytest.mark.parametrize("kind", ["mbtiles", "pmtiles", "folder"])
def test_info_tells_what_a_pyramid_holds_and_verify_reads_every_tile(tmp_path, kind):
    from cvgeo.pipelines.info import describe_files
    from cvgeo.report import Reporter

    tiles = tiles_of(48.1, 11.6) | dict.fromkeys(around(48.1, 11.6, ZOOM - 1), GREY)
    broken = list(tiles)[4]
    writers = {"mbtiles": write_mbtiles, "pmtiles": write_pmtiles, "folder": write_folder}

    def told(name, tiles, verify):
        reporter = Reporter()
        path = writers[kind](tmp_path / f"{name}.{kind}", tiles)
        (record,) = describe_files([str(path)], verify, reporter)
        return record, reporter.failures

    record, failures = told("a", tiles, True)
    named = {"mbtiles": "MBTiles", "pmtiles": "PMTiles", "folder": "folder of map tiles"}
    assert record["kind"] == named[kind] and record["tiles"] == 18 and record["zooms"] == [ZOOM - 1, ZOOM]
    assert record["tile_size"] == 256 and record["crs"] == "EPSG:3857" and record["verified"] and not failures
    assert record["gsd_m"] == pytest.approx(SIDE / 256 / 2**ZOOM * np.cos(np.radians(48.1)), rel=0.01)
    assert record["south"] < 48.1 < record["north"] and record["west"] < 11.6 < record["east"]
    tiles[broken] = tiles[broken][:300]
    record, failures = told("b", tiles, False)
    assert record["tiles"] == 18 and not failures
    record, failures = told("c", tiles, True)
    assert record["broken"] == 1 and not record["verified"] and len(failures) == 1


def test_directories_of_an_archive_are_walked_and_runs_counted(tmp_path):
    """More tiles than a root directory takes, many of them alike: leaf directories and runs."""
    sizes = np.random.default_rng(0).integers(1, 1000, (128, 128))
    tiles = {(7, x, y): b"a" if x < 20 else bytes([x, y] * sizes[x, y]) for x in range(128) for y in range(128)}
    path = write_pmtiles(tmp_path / "a.pmtiles", tiles)
    from cvgeo.data.sources.pmtiles import PMTilesStore

    store = PMTilesStore(path)
    assert store._header["leaf_directory_length"] > 0
    found = list(store.addresses())
    assert len(found) == len(tiles) and set(found) == set(tiles)
    assert store.read((7, 120, 3)) == tiles[7, 120, 3] and store.read((7, 5, 99)) == b"a"
    assert store.read((6, 0, 0)) is None
    store.close()
