import csv
import io
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def tiles(make_store):
    """A folder with pictures and a store of their tiles."""
    return make_store(8)


def ground(tiles, number=0):
    return str(tiles / "data" / "pictures" / f"ground{number:03d}.png")


def test_alone_it_searches_the_store_made_last(program, tiles):
    done = program("search", ground(tiles), "-k", "2", env={"CVGEO_STATE": str(tiles / "state")})
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [record["rank"] for record in records] == [1, 2]
    assert records[0]["tile"] == "t000" and str(tiles / "tiles.h5").encode() in done.stderr


def test_formats_and_sheet(program, tiles):
    words = ("search", ground(tiles, 3), "--store", str(tiles / "tiles.h5"), "--heading", "0")
    done = program(*words, "--format", "geojson", "--sheet", "sheet.png")
    features = json.loads(done.stdout)["features"]
    assert features[0]["geometry"]["coordinates"] == [13.0, 52.003] and features[0]["properties"]["rank"] == 1
    kinds = [(one["properties"]["kind"], one["geometry"]["type"]) for one in features]
    assert kinds == [("place", "Point")] * 5 + [("error_ellipse", "Polygon")] * 5
    ring = np.array(features[5]["geometry"]["coordinates"][0])
    assert features[5]["properties"]["rank"] == 1 and (ring[0] == ring[-1]).all()
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    major = features[5]["properties"]["ellipse_major_m"]
    assert (north - south) * 111_270 == pytest.approx(2 * major, rel=0.01) and west < 13.0 < east
    done = program(*words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert len(rows) == 5 and rows[0]["tile"] == "t003" and rows[0]["probability"] == ""


def test_paths_from_stdin_are_answered_as_they_come(tmp_path, environment, tiles):
    words = [sys.executable, "-m", "cvgeo", "search", "-", "--store", str(tiles / "tiles.h5"), "-k", "1"]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment, cwd=tmp_path) as process:
        for number in (4, 1):
            process.stdin.write(ground(tiles, number).encode() + b"\n")
            process.stdin.flush()
            # The next path is written only after the answer to this one.
            assert json.loads(process.stdout.readline())["tile"] == f"t{number:03d}"
        process.stdin.write(b"missing.png\n")
        process.stdin.close()
        assert process.wait(60) == 5


def test_damaged_store(program, tiles, tmp_path):
    content = bytearray((tiles / "tiles.h5").read_bytes())
    from cvgeo.retrieval import EmbeddingStore

    with EmbeddingStore(tiles / "tiles.h5") as store:
        row = store.fetch([2])[0].astype(np.float16).tobytes()
    content[content.index(row) + 9] ^= 0x40
    (tmp_path / "damaged.h5").write_bytes(content)
    done = program("search", ground(tiles), "--store", str(tmp_path / "damaged.h5"))
    assert done.returncode == 3 and b"damaged rows: t002" in done.stderr and len(done.stderr.splitlines()) == 1


def test_photos_are_searched_with_what_is_told_of_them(program, tiles, tmp_path):
    from cvgeo.data.images import read_image, write_image

    # From the middle column's heading, north, 150 degrees of the panorama as a lens shows them.
    panorama = read_image(ground(tiles, 2))
    across = (np.arange(240) + 0.5) / 120 - 1
    columns = (np.degrees(np.arctan(across * np.tan(np.radians(75)))) / 360 + 0.5) * panorama.shape[1]
    write_image(tmp_path / "photo.png", np.repeat(panorama[:1, columns.astype(int)], 180, axis=0))
    words = ("search", str(tmp_path / "photo.png"), "--store", str(tiles / "tiles.h5"), "-k", "1", "--hfov", "150")
    done = program(*words, "--heading", "0", "--pitch", "1", "--roll", "-1")
    record = json.loads(done.stdout)
    assert record["tile"] == "t002" and record["heading"] == 0 and not done.stderr
    done = program("search", str(tmp_path / "photo.png"), "--store", str(tiles / "tiles.h5"), "--heading", "0")
    assert b"photo.png: its field of view is unknown, 65 degrees are assumed; say --hfov" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--hfov", "0"), 2, "--hfov"),
        (("--hfov", "400"), 2, "--hfov"),
        (("--pitch", "95"), 2, "--pitch"),
        (("--projection", "fisheye"), 2, "fisheye"),
        (("--projection", "cube"), 3, "ground000.png: 128x64 pixels is no cube map; give 3x2, 6x1, 1x6, 4x3 squares"),
        (("--projection", "perspective", "--hfov", "200"), 3, "of 200 degrees; give more than 0, at most 179"),
    ],
)
def test_cameras_that_cannot_be(program, tiles, words, status, said):
    done = program("search", ground(tiles), "--store", str(tiles / "tiles.h5"), *words)
    text = done.stderr.decode()
    assert done.returncode == status and said in text and "Traceback" not in text and not done.stdout


def turned(tiles, folder, number, heading):
    """A panorama that was rolled so that its centre looks along `heading`; it looked north."""
    image = cv2.imread(ground(tiles, number))
    path = folder / f"turned{number}.png"
    cv2.imwrite(str(path), np.roll(image, -round(heading / 360 * image.shape[1]), axis=1))
    return str(path)


def test_headings_come_with_their_uncertainty(program, tmp_path, tiles):
    words = ("--store", str(tiles / "tiles.h5"), "--hfov", "360", "--projection", "equirectangular")
    done = program("search", turned(tiles, tmp_path, 2, 90), *words, "--heading", "unknown")
    first, second, *_ = [json.loads(line) for line in done.stdout.splitlines()]
    assert first["tile"] == "t002" and abs(first["heading"] - 90) < 8
    assert 0 < first["heading_sd"] < second["heading_sd"] <= 180
    done = program("search", ground(tiles, 2), *words, "--heading", "0")
    assert json.loads(done.stdout.splitlines()[0])["heading_sd"] is None


@pytest.mark.parametrize("kept", [True, False])
def test_headings_by_azimuth_maps_of_a_second_model(program, tmp_path, tiles, rings_model, kept):
    # The first model cannot be rolled and tries eight headings only: it finds the place, the second finds the heading.
    first, second = str(rings_model(circular=False)), str(rings_model())
    embedded = program(
        *("embed", "-d", str(tiles / "data"), "--model", first, "-o", str(tmp_path / "two.h5"), "-j", "1", "--json"),
        *(("--azimuth", second) if kept else ()),
    )
    assert json.loads(embedded.stdout)["azimuth_dimension"] == (256 if kept else 0), embedded.stderr
    done = program(
        *("search", turned(tiles, tmp_path, 5, 45), "--store", str(tmp_path / "two.h5"), "--heading", "unknown"),
        *("--hfov", "360", "--headings", "8", *(() if kept else ("--azimuth", second))),
    )
    hit = json.loads(done.stdout.splitlines()[0])
    assert hit["tile"] == "t005" and abs(hit["heading"] - 45) < 8 and hit["heading_sd"] < 20


@pytest.mark.parametrize(
    ("command", "words", "status", "said"),
    [
        ("search", ("PICTURE", "--azimuth", "STIFF"), 2, "has no azimuth columns that can be rolled"),
        ("embed", ("PICTURE", "--view", "ground", "--model", "MODEL", "-o", "x.h5", "--azimuth", "MODEL"), 2, "tiles"),
        ("search", ("PICTURE", "--azimuth", "missing.safetensors"), 3, "no such model"),
    ],
)
def test_bad_azimuth_models_get_one_line(program, tiles, rings_model, command, words, status, said):
    known = {"PICTURE": ground(tiles), "MODEL": str(rings_model()), "STIFF": str(rings_model(circular=False))}
    done = program(command, *(known.get(word, word) for word in words), env={"CVGEO_STATE": str(tiles / "state")})
    lines = [line for line in done.stderr.decode().splitlines() if "searching" not in line]
    assert done.returncode == status and not done.stdout
    assert len(lines) == 1 and said in lines[0]


AROUND = {
    "type": "Polygon",
    "coordinates": [[[12, 52.0015], [14, 52.0015], [14, 52.0055], [12, 52.0055], [12, 52.0015]]],
}


def test_priors_leave_out_what_lies_outside(program, tiles, tmp_path):
    (tmp_path / "area.geojson").write_text(json.dumps(AROUND))
    words = ("search", ground(tiles, 3), "--store", str(tiles / "tiles.h5"), "--heading", "0", "-k", "9")
    done = program(*words, "--polygon", str(tmp_path / "area.geojson"))
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[0]["tile"] == "t003" and {one["tile"] for one in records} == {"t002", "t003", "t004", "t005"}
    done = program(*words, "--polygon", str(tmp_path / "area.geojson"), "--near", "52.005,13,0.15km")
    assert {json.loads(line)["tile"] for line in done.stdout.splitlines()} == {"t004", "t005"}


def test_every_hit_tells_its_error_ellipse(program, tiles):
    done = program("search", ground(tiles, 3), "--store", str(tiles / "tiles.h5"), "--heading", "0", "-k", "1")
    record = json.loads(done.stdout)
    # The tiles are 32 m wide and 111 m apart: the ellipse is that of one square.
    radius = 32 / 12**0.5 * (-2 * np.log(1 - 0.6826894921)) ** 0.5
    assert record["ellipse_major_m"] == record["ellipse_minor_m"] == pytest.approx(radius, abs=0.01)
    assert 0 <= record["ellipse_azimuth"] < 180 and record["probability"] is None


def narrow(tiles, folder, number, centre):
    """90 degrees around a heading of a place's panorama, as an equirectangular strip."""
    import cv2

    image = cv2.imread(ground(tiles, number))
    width = image.shape[1]
    part = np.roll(image, -round(centre / 360 * width), axis=1)[:, width * 3 // 8 : width * 5 // 8]
    path = folder / f"place{number} {centre}.png"
    cv2.imwrite(str(path), part)
    return str(path)


def test_pictures_of_one_place_are_answered_as_one(program, tiles, tmp_path):
    pictures = [narrow(tiles, tmp_path, 5, centre) for centre in (20, 130, 250)]
    words = ("--store", str(tiles / "tiles.h5"), "--hfov", "90", "--projection", "equirectangular", "-k", "2")
    done = program("search", *pictures, "--same-place", *words)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and [one["rank"] for one in records] == [1, 2]
    assert records[0]["tile"] == "t005" and records[0]["query"] == pictures and len(records[0]["headings"]) == 3
    # The panorama's centre column looks north.
    apart = [
        (found - told + 180) % 360 - 180 for found, told in zip(records[0]["headings"], (20, 130, 250), strict=True)
    ]
    assert max(map(abs, apart)) < 30 and records[0]["heading"] == records[0]["headings"][0]
    done = program("search", *pictures, "missing.png", "--same-place", *words, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    assert done.returncode == 5 and json.loads(rows[0]["query"]) == pictures


def page_data(text):
    return json.loads(text.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_map_page_needs_nothing_but_itself(program, tiles, tmp_path):
    import shutil

    evil = tmp_path / "<img onerror=alert(1)>&'.png"
    shutil.copy(ground(tiles, 3), evil)
    words = ("--store", str(tiles / "tiles.h5"), "--heading", "0", "--map", "m.html", "-k", "3")
    done = program("search", str(evil), ground(tiles, 4), *words)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 6
    text = (tmp_path / "here" / "m.html").read_text(encoding="utf-8")
    assert "<img onerror" not in text and "default-src 'none'" in text and len(text) < 2_000_000
    assert "http" not in text.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    first, second = page_data(text)["views"]
    assert first["name"] == evil.name and [hit["rank"] for hit in second["hits"]] == [1, 2, 3]
    best = first["hits"][0]
    assert best["tile"] == "t003" and best["heading"] == 0 and best["thumb"].startswith("data:image/jpeg;base64,")
    assert best["probability"] is None and first["truth"] is None and first["heat"][0][2] == 32
    north = [hit["y"] for hit in first["hits"]]
    assert np.ptp(north) == pytest.approx(np.ptp([hit["lat"] for hit in first["hits"]]) * 111_270, rel=0.01)


def test_one_page_shows_no_crowd(program, tiles, tmp_path):
    import shutil

    (tmp_path / "many").mkdir()
    for number in range(21):
        shutil.copy(ground(tiles, 3), tmp_path / "many" / f"{number}.png")
    words = ("--store", str(tiles / "tiles.h5"), "--heading", "0", "--map", "m.html", "-k", "1")
    done = program("search", str(tmp_path / "many"), *words)
    assert done.returncode == 2 and b"at most 20 pictures" in done.stderr and not done.stdout
