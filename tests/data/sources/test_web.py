"""What a server of map tiles may answer, and what is never taken from it."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest

from cvgeo.data.images import encode_image
from cvgeo.data.sources import web
from cvgeo.data.sources.pyramid import PyramidSource
from cvgeo.data.sources.web import WebStore
from cvgeo.errors import InputError, UnfetchedError, UsageError

TILE = (15, 17439, 11375)
PATH = "/15/17439/11375.png?key=secret"
GOOD = encode_image(np.full((256, 256, 3), 90, np.uint8), ".png")


def store_of(tile_server, tmp_path, template=None):
    return WebStore(template or tile_server.template, rate=100, cache=tmp_path, first_pause_s=0.01)


def bomb(side):
    """A PNG of a few kilobytes that unpacks to side x side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_redirects_are_followed_a_few_times_and_in_the_web_only(tile_server, tmp_path):
    tile_server.answers = {
        PATH: [(302, {"Location": "/a"}, b"")],
        "/a": [(301, {"Location": "/b"}, b"")],
        "/b": [(200, {}, GOOD)],
    }
    assert store_of(tile_server, tmp_path / "1").read(TILE) == GOOD
    (tmp_path / "tile.png").write_bytes(GOOD)
    for target in (PATH, (tmp_path / "tile.png").as_uri(), "ftp://127.0.0.1/tile.png?key=secret", "data:,x"):
        tile_server.answers[PATH] = [(302, {"Location": target}, b"")]
        before = len(tile_server.asked)
        with pytest.raises(
            UnfetchedError, match=r"sends elsewhere \(status 302\), too often or out of the web"
        ) as caught:
            store_of(tile_server, tmp_path / "2").read(TILE)
        assert "secret" not in str(caught.value) and len(tile_server.asked) - before <= 1 + web.MOST_REDIRECTS
    for number in range(9):
        tile_server.answers[f"/{number}"] = [(302, {"Location": f"/{number + 1}"}, b"")]
    tile_server.answers |= {PATH: [(302, {"Location": "/0"}, b"")], "/9": [(200, {}, GOOD)]}
    with pytest.raises(UnfetchedError, match="too often"):
        store_of(tile_server, tmp_path / "2").read(TILE)
    assert not list((tmp_path / "2").rglob("*.png"))


def test_bodies_are_bounded_in_bytes_pixels_and_time(tile_server, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "MOST_BYTES", 2000)
    tile_server.answers[PATH] = [(200, {}, bytes(5000))]
    with pytest.raises(UnfetchedError, match="sends more than 2,000 bytes; check the URL"):
        store_of(tile_server, tmp_path).read(TILE)
    monkeypatch.undo()
    for side in (4096, 40_000):
        tile_server.answers[PATH] = [(200, {}, bomb(side))]
        with pytest.raises(InputError, match=rf"{side}x{side} pixels"):
            store_of(tile_server, tmp_path).read(TILE)
    monkeypatch.setattr(web, "LONGEST_BODY_S", -1.0)
    tile_server.answers[PATH] = [(200, {}, GOOD)]
    with pytest.raises(UnfetchedError, match=r"cannot be fetched \(still sending"):
        store_of(tile_server, tmp_path).read(TILE)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_bomb_in_a_packed_pyramid_is_not_unpacked(tmp_path):
    from cvgeo.data.sources.slippy import FolderStore

    path = tmp_path / "15" / "17439" / "11375.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(bomb(20_000))
    with pytest.raises(InputError, match="has 20000x20000 pixels: map tiles are squares of 256 or 512"):
        PyramidSource(FolderStore(tmp_path, [path]))


def test_holes_are_remembered_and_damaged_answers_are_not(tile_server, tmp_path):
    for status in web.HOLES:
        tile_server.answers[PATH] = [(status, {}, b"")]
        store, before = store_of(tile_server, tmp_path / str(status)), len(tile_server.asked)
        assert store.read(TILE) is None and store.read(TILE) is None and len(tile_server.asked) == before + 1
    tile_server.answers[PATH] = [(200, {}, GOOD[:-40])]
    with pytest.raises(UnfetchedError, match="truncated"):
        store_of(tile_server, tmp_path).read(TILE)
    tile_server.answers[PATH] = [(200, {}, GOOD)]
    assert store_of(tile_server, tmp_path).read(TILE) == GOOD


def test_a_login_goes_to_its_host_only_and_is_never_shown(tile_server, tmp_path):
    template = tile_server.template.replace("http://", "http://me:pass%20word@")
    other = tile_server.template.replace("127.0.0.1", "localhost").format(z=1, x=2, y=3)
    tile_server.answers[PATH] = [(302, {"Location": other}, b"")]
    tile_server.answers["/1/2/3.png?key=secret"] = [(200, {}, GOOD)]
    store = store_of(tile_server, tmp_path, template)
    assert store.read(TILE) == GOOD and "pass" not in store.name and store.attribution == "127.0.0.1"
    first, second = tile_server.headers_asked
    assert first["Authorization"] == "Basic " + base64.b64encode(b"me:pass word").decode()
    assert "Authorization" not in second


def test_odd_letters_of_a_path_are_sent_as_they_are_meant(tile_server, tmp_path):
    tile_server.answers["/luft%20bild/%C3%BC/15/17439/11375.png?key=secret"] = [(200, {}, GOOD)]
    template = tile_server.template.replace("/{z}", "/luft bild/ü/{z}")
    assert store_of(tile_server, tmp_path, template).read(TILE) == GOOD


@pytest.mark.parametrize("host", ["", "[bad", "host:port", "me:secret@host:99999", "höst"])
def test_hosts_that_make_no_sense(host):
    with pytest.raises(UsageError, match="has no host, or one that makes no sense") as caught:
        WebStore(f"https://{host}/{{z}}/{{x}}/{{y}}.png")
    assert "secret" not in str(caught.value)


def test_threads_ask_for_a_tile_once_and_keep_the_rate(tile_server, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    tile_server.other = (200, {}, GOOD)
    store = WebStore(tile_server.template, rate=50, cache=tmp_path)
    addresses = [(3, x, y) for x in range(4) for y in range(5)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(store.read, addresses * 2)) == {GOOD}
    paths, times = [path for path, *_ in tile_server.asked], [at for *_, at in tile_server.asked]
    assert len(paths) == len(set(paths)) == 20 and max(times) - min(times) >= 0.8 * 19 / 50
