import json
import math

import cv2
import numpy as np
import pytest

from cvgeo.data.areas import parse_near
from cvgeo.data.images import encode_image, read_image
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.explain import drawing
from cvgeo.geometry.geodesy import tile_of
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.maps import MAP_PIXELS, write_map, write_page
from cvgeo.pipelines.search import NO_SUMS, Searcher, SearchOptions, find_places
from cvgeo.pipelines.sheet import _Card, draw_sheet, shows_place, write_sheet
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.training.calibration import CalibrationEntry, write_calibration

KEYS = ["query", "rank", "tile", "score", "lat", "lon", "heading", "heading_sd", "probability", "error_m", "none"]
KEYS += ["ellipse_major_m", "ellipse_minor_m", "ellipse_azimuth"]


@pytest.fixture(scope="module")
def rings(tmp_path_factory, make_rings):
    folder = tmp_path_factory.mktemp("rings")
    make_rings(folder / "data", train=12, val=0)
    return folder


@pytest.fixture(scope="module", params=[True, False], ids=["rolled", "turned"])
def store(request, rings, rings_model, tmp_path_factory):
    """A store of a model whose descriptors can be rolled, and of one whose pictures must be turned."""
    state = tmp_path_factory.mktemp("state")
    path = rings / f"tiles-{request.param}.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVGEO_STATE", str(state))
        model = str(rings_model(circular=request.param))
        options = EmbedOptions(device="cpu", jobs=1)
        embed([], path, reporter=Reporter(), model=model, dataset=str(rings / "data"), options=options)
    return path


def search(store, names, reporter=None, **options):
    reporter = reporter or Reporter()
    pose = StatedPose(
        **{name: options.pop(name) for name in ("heading", "hfov", "projection", "heading_unknown") if name in options}
    )
    searcher = Searcher(str(store), None, None, SearchOptions(stated=pose, device="cpu", **options), reporter)
    return [list(found.records(searcher.store)) for found in find_places(map(str, names), searcher, reporter, 8)]


def test_each_panorama_is_found_at_its_place(store, rings):
    names = [rings / "data" / "pictures" / f"ground{i:03d}.png" for i in range(12)]
    for number, hits in enumerate(search(store, names, heading=0.0, k=3)):
        assert [list(hit) for hit in hits] == [KEYS] * 3
        assert hits[0]["tile"] == f"t{number:03d}" and hits[0]["rank"] == 1
        assert hits[0]["lat"] == pytest.approx(52 + number * 1e-3) and hits[0]["heading"] == 0.0
        assert hits[0]["error_m"] is None and hits[0]["probability"] is None
        assert hits[0]["score"] >= hits[1]["score"] >= hits[2]["score"]


@pytest.mark.parametrize("heading", [22.5, 90.0, 200.0, 337.5])
def test_the_heading_is_found(store, rings, tmp_path, heading):
    # The panorama's centre column looks north; rolled to the left by h degrees it looks along h.
    names = []
    for number in range(4):
        image = cv2.imread(str(rings / "data" / "pictures" / f"ground{number:03d}.png"))
        turned = np.roll(image, -round(heading / 360 * image.shape[1]), axis=1)
        names.append(tmp_path / f"turned{number}.png")
        cv2.imwrite(str(names[-1]), turned)
    for number, hits in enumerate(search(store, names, heading_unknown=True)):
        assert hits[0]["tile"] == f"t{number:03d}"
        assert abs((hits[0]["heading"] - heading + 180) % 360 - 180) < 8
    for number, hits in enumerate(search(store, names, heading=heading)):
        assert hits[0]["tile"] == f"t{number:03d}" and hits[0]["heading"] == pytest.approx(heading)


@pytest.fixture
def calibrated(store):
    """The store's model with a calibration for known headings, fitted at 90 and 360 degrees."""
    with EmbeddingStore(store) as opened:
        reference, mark = opened.header.model, opened.header.fingerprint
    numbers = {"none": -3.0, "level": -0.1, "none_share": 0.1, "dataset": "d", "split": "val"}
    entries = [
        CalibrationEntry(hfov, True, sharpness, **numbers, queries=9, gallery=9)
        for hfov, sharpness in ((90, 20), (360, 60))
    ]
    path = write_calibration(reference, mark, entries)
    yield path
    path.unlink(missing_ok=True)


@pytest.mark.parametrize(("hfov", "told"), [(62.0, True), (40.0, False)])
def test_a_view_far_from_those_that_were_calibrated_gets_no_probability(store, rings, calibrated, hfov, told):
    remarks = []
    reporter = Reporter()
    reporter.note = remarks.append
    (hits,) = search(
        store,
        [rings / "data" / "pictures" / "ground003.png"],
        reporter,
        heading=0.0,
        hfov=hfov,
        projection="perspective",
    )
    assert (hits[0]["probability"] is not None) == told
    (remark,) = [one for one in remarks if "calibrated" in one]
    assert remark.endswith("no probabilities") != told


def test_probabilities_are_the_softmax_of_the_scores(store, rings, calibrated):
    (hits,) = search(store, [rings / "data" / "pictures" / "ground003.png"], heading=0.0, k=12)
    parts = [math.exp(60 * hit["score"]) for hit in hits]
    level = math.log(sum(parts)) - math.log(12)
    none = 1 / (1 + math.exp(3.0 + 0.1 * level))
    assert hits[0]["none"] == pytest.approx(none, abs=2e-3) and len({hit["none"] for hit in hits}) == 1
    for hit, part in zip(hits, parts, strict=True):
        assert hit["probability"] == pytest.approx((1 - none) * part / sum(parts), abs=3e-3)


def test_what_is_less_probable_than_asked_for_is_not_placed(store, rings, calibrated):
    (hits,) = search(store, [rings / "data" / "pictures" / "ground003.png"], heading=0.0, k=3, min_probability=1.0)
    assert len(hits) == 1 and list(hits[0]) == KEYS and hits[0]["tile"] is None and hits[0]["lat"] is None
    assert 0 < hits[0]["probability"] < 1


def test_tiles_left_out_by_an_area_are_not_in_the_sum(store, rings, calibrated):
    areas = [parse_near("52.003,13,250m")]
    (hits,) = search(store, [rings / "data" / "pictures" / "ground003.png"], heading=0.0, k=12, areas=areas)
    parts = [math.exp(60 * hit["score"]) for hit in hits]
    none = 1 / (1 + math.exp(3.0 + 0.1 * (math.log(sum(parts)) - math.log(len(parts)))))
    assert hits[0]["tile"] == "t003" and len(hits) == 5
    assert hits[0]["none"] == pytest.approx(none, abs=2e-3)
    assert hits[0]["probability"] == pytest.approx((1 - none) * parts[0] / sum(parts), abs=3e-3)


def test_several_pictures_of_one_place_have_no_probability(store, rings, calibrated, monkeypatch):
    reporter, told = Reporter(), []
    monkeypatch.setattr(reporter, "note", told.append)
    names = [rings / "data" / "pictures" / f"ground00{number}.png" for number in (3, 3)]
    (hits,) = search(store, names, reporter, heading=0.0, same_place=True)
    assert hits[0]["tile"] == "t003" and hits[0]["probability"] is None and hits[0]["none"] is None
    assert [text for text in told if "exact search" in text] == [NO_SUMS]
    with pytest.raises(UsageError, match="--min-probability"):
        search(store, names, heading=0.0, same_place=True, min_probability=0.5)


def test_the_weights_go_by_the_calibration(store, rings, calibrated):
    searcher = Searcher(str(store), None, None, SearchOptions(stated=StatedPose(heading=0.0), device="cpu"), Reporter())
    (found,) = find_places([str(rings / "data" / "pictures" / "ground003.png")], searcher, Reporter(), 1)
    parts = np.exp(60 * found.scores.astype(float))
    np.testing.assert_allclose(found.weights, parts / parts.sum(), rtol=1e-9)


def test_a_picture_that_is_not_placed_is_drawn_as_such(store, rings, tmp_path, calibrated):
    options = SearchOptions(stated=StatedPose(heading=0.0), device="cpu", k=2, min_probability=1.0)
    searcher = Searcher(str(store), None, None, options, Reporter())
    (found,) = find_places([str(rings / "data" / "pictures" / "ground003.png")], searcher, Reporter(), 1)
    assert found.abstains and found.verdict.startswith("not placed")
    write_sheet(tmp_path / "sheet.png", found, searcher.store)
    write_page(tmp_path / "page.html", [found], searcher.store, None)
    assert found.verdict in (tmp_path / "page.html").read_text()


def test_without_a_calibration_that_fits(store, rings, calibrated):
    names = [rings / "data" / "pictures" / "ground003.png"]
    (hits,) = search(store, names, heading_unknown=True)
    assert hits[0]["probability"] is None and hits[0]["none"] is None
    text = calibrated.read_text()
    calibrated.write_text(text.replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(MismatchError, match="other weights"):
        search(store, names, heading=0.0)
    calibrated.write_text(text[:40])
    with pytest.raises(InputError, match="damaged calibration"):
        search(store, names, heading=0.0)
    calibrated.unlink()
    with pytest.raises(UsageError, match="--min-probability"):
        search(store, names, heading=0.0, min_probability=0.5)


def test_a_part_of_a_panorama_with_its_field_of_view(store, rings, tmp_path):
    image = cv2.imread(str(rings / "data" / "pictures" / "ground005.png"))
    # From heading 0 (the centre column) a half turn clockwise: its own centre looks east.
    cv2.imwrite(str(tmp_path / "half.png"), image[:, 64:])
    hits = search(store, [tmp_path / "half.png"], hfov=180.0, heading=90.0)[0]
    assert hits[0]["tile"] == "t005"
    hits = search(store, [tmp_path / "half.png"], hfov=180.0, heading_unknown=True)[0]
    assert hits[0]["tile"] == "t005" and abs(hits[0]["heading"] - 90) < 12


def test_the_projection_of_a_photo_decides_whether_it_is_found(store, rings, tmp_path):
    across = (np.arange(480) + 0.5) / 240 - 1
    part = np.degrees(np.arctan(across * np.tan(np.radians(80)))) / 360 + 0.5
    names = [tmp_path / f"photo{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        image = cv2.imread(str(rings / "data" / "pictures" / f"ground{number:03d}.png"))
        cv2.imwrite(str(name), np.repeat(image[:1, (part * image.shape[1]).astype(int)], 360, axis=0))
    right = {}
    for projection in ("", "perspective", "equirectangular"):
        hits = search(store, names, hfov=160.0, heading=0.0, projection=projection)
        right[projection] = sum(one[0]["tile"] == f"t{number:03d}" for number, one in enumerate(hits))
    # A picture that is no strip is taken for a photo where nothing is said.
    assert right[""] == right["perspective"] == 8 and right["equirectangular"] <= 4


def test_known_and_unknown_headings_in_one_batch_keep_their_order(store, rings, tmp_path):
    from PIL import Image

    names = []
    for number in range(4):
        picture = Image.open(rings / "data" / "pictures" / f"ground{number:03d}.png")
        names.append(tmp_path / f"{number}.jpg")
        exif = Image.Exif()
        if number % 2:
            gps = {1: "N", 2: (52.0, 0.0, 3.6 * number), 3: "E", 4: (13.0, 0.0, 0.0), 16: "T", 17: 0.0}
            exif[0x8825] = gps
        picture.save(names[-1], quality=95, exif=exif)
    found = search(store, names)
    assert [hits[0]["tile"] for hits in found] == ["t000", "t001", "t002", "t003"]
    assert found[1][0]["error_m"] == pytest.approx(0.0, abs=0.5) and found[1][0]["heading"] == 0.0
    assert found[0][0]["error_m"] is None


def test_broken_pictures_are_told_and_the_rest_is_found(store, rings, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    reporter = Reporter()
    names = [tmp_path / "broken.jpg", rings / "data" / "pictures" / "ground001.png", tmp_path / "missing.png"]
    found = search(store, names, reporter)
    assert len(found) == 1 and len(reporter.failures) == 2


def test_a_store_of_another_model_is_refused(store, rings_model):
    for reference in (str(rings_model(seed=3)),):
        with pytest.raises(MismatchError, match="another model"):
            Searcher(str(store), reference, None, SearchOptions(device="cpu"), Reporter())


def test_stores_that_cannot_be_searched(rings, rings_model, tmp_path, monkeypatch):
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path))
    options = EmbedOptions(device="cpu", jobs=1)
    call = {"reporter": Reporter(), "model": str(rings_model()), "dataset": str(rings / "data"), "options": options}
    embed([], tmp_path / "ground.h5", view="ground", **call)
    with pytest.raises(MismatchError, match="holds ground views"):
        Searcher(None, None, None, SearchOptions(device="cpu"), Reporter())
    with pytest.raises(InputError, match="no such store"):
        Searcher(str(tmp_path / "no.h5"), None, None, SearchOptions(device="cpu"), Reporter())


def test_the_sheet_frames_the_true_tile(store, rings, tmp_path):
    reporter = Reporter()
    searcher = Searcher(str(store), None, None, SearchOptions(device="cpu", k=7), reporter)
    name = str(rings / "data" / "pictures" / "ground002.png")
    found = next(iter(find_places([name], searcher, reporter, 1)))
    found.picture.lat, found.picture.lon = 52.002, 13.0
    write_sheet(tmp_path / "sheet.png", found, searcher.store)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))[:, :, ::-1]
    green = (sheet == (22, 150, 82)).all(axis=-1)
    assert sheet.shape[1] == 5 * 318 + 18 and green.sum() > 4 * 300 * 4
    assert shows_place(searcher.store, found.hits[0].row, 52.0021, 13.0)
    assert not shows_place(searcher.store, found.hits[0].row, 52.0022, 13.0)
    assert not shows_place(searcher.store, found.hits[0].row, math.nan, math.nan)


class Warned(Reporter):
    """Keeps what it is warned of."""

    def __init__(self):
        super().__init__()
        self.texts = []

    def warn(self, text):
        self.texts.append(text)


@pytest.mark.parametrize(("lat", "astray"), [(52.016, False), (53.0, True)])
def test_a_picture_of_another_area_is_told_of_and_its_place_stays_off_the_map(
    store, rings, tmp_path, monkeypatch, lat, astray
):
    reporter = Warned()
    searcher = Searcher(str(store), None, None, SearchOptions(device="cpu", k=2), reporter)
    path = str(rings / "data" / "pictures" / "ground002.png")
    # The tiles lie between 52.0 and 52.011.
    monkeypatch.setattr("cvgeo.pipelines.found.Found.truth", property(lambda found: (lat, 13.0)))
    (found,) = find_places([path], searcher, reporter, 1)
    assert any("110 km outside of the tiles searched" in text for text in reporter.texts) == astray
    write_page(tmp_path / "page.html", [found], searcher.store, None)
    page = (tmp_path / "page.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["views"][0]
    assert (data["truth"] is None) == astray == ("outside of the tiles searched" in data["summary"])
    assert data["side"] < 5000


def test_a_page_holds_its_error_ellipses_and_a_place_beyond_the_imagery(store, rings, tmp_path):
    searcher = Searcher(str(store), None, None, SearchOptions(device="cpu", k=3), Reporter())
    (found,) = find_places([str(rings / "data" / "pictures" / "ground002.png")], searcher, Reporter(), 1)
    found.picture.lat, found.picture.lon = 52.016, 13.0
    write_page(tmp_path / "page.html", [found], searcher.store, None)
    page = (tmp_path / "page.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])["views"][0]
    half = data["side"] / 2
    assert all(abs(hit[axis]) + hit["major"] <= half for hit in data["hits"] for axis in "xy")
    assert all(abs(one) < half for one in data["truth"])


def test_a_sheet_of_odd_pictures():
    cards = [_Card(None, 1, ["a" * 200, "b", "c"], False), _Card(np.zeros((30, 900, 3), np.uint8), 2, ["x"], True)]
    sheet = draw_sheet(np.zeros((2000, 100, 3), np.uint8), "long title " * 40, "subtitle", cards)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3


def test_records_are_json(store, rings):
    record = search(store, [rings / "data" / "pictures" / "ground000.png"])[0][0]
    assert json.loads(json.dumps(record))["tile"] == "t000"


def test_rows_without_positions(rings, rings_model, tmp_path, monkeypatch):
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path))
    options = EmbedOptions(device="cpu", jobs=1)
    tiles = str(rings / "data" / "pictures" / "aerial000.png")
    embed([tiles], tmp_path / "t.h5", reporter=Reporter(), model=str(rings_model()), options=options)
    with EmbeddingStore(tmp_path / "t.h5") as one:
        assert math.isnan(one.columns.lat[0])
    hits = search(tmp_path / "t.h5", [rings / "data" / "pictures" / "ground000.png"])[0]
    assert len(hits) == 1 and math.isnan(hits[0]["lat"]) and hits[0]["error_m"] is None


def test_a_map_is_drawn_on_imagery_of_any_kind(store, rings, tile_server, tmp_path, monkeypatch):
    monkeypatch.setenv("CVGEO_CACHE", str(tmp_path / "cache"))
    grey = encode_image(np.full((256, 256, 3), 90, np.uint8), ".png")
    tile_server.other = (200, {}, encode_image(np.full((1024, 1024, 3), 90, np.uint8), ".png"))  # few, for the rate
    north, east = (int(value) for value in tile_of(52.003, 13.0, 14)[::-1])
    for column in range(east - 2, east + 3):
        (tmp_path / "map" / "14" / str(column)).mkdir(parents=True)
        for row in range(north - 2, north + 3):
            (tmp_path / "map" / "14" / str(column) / f"{row}.png").write_bytes(grey)
    searcher = Searcher(str(store), None, None, SearchOptions(device="cpu", k=1), Reporter())
    (found,) = find_places([str(rings / "data" / "pictures" / "ground003.png")], searcher, Reporter(), 1)
    drawn = []
    for ortho in (str(tmp_path / "map"), tile_server.template):
        write_map(tmp_path / "map.png", found, searcher.store, ortho)
        drawn.append(read_image(tmp_path / "map.png"))
        # The imagery steps back: 90 becomes 108 at the map's left edge.
        assert (drawn[-1][600, 5] == 108).all() and (drawn[-1] == drawing.FOUND).all(axis=2).any()
    # Whom the server's pictures are from stands in the header, and is all that differs.
    rows, columns = np.nonzero((drawn[0] != drawn[1]).any(axis=2))
    assert len(rows) and rows.max() < drawn[0].shape[0] - MAP_PIXELS and columns.min() > MAP_PIXELS / 2
    with pytest.raises(InputError, match=r"nowhere.mbtiles: no such file"):
        write_map(tmp_path / "map.png", found, searcher.store, str(tmp_path / "nowhere.mbtiles"))
