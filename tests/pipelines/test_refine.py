import cv2
import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from cvgeo.data.sources.geotags import StatedPose
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import latlon_to_map
from cvgeo.pipelines.embed import EmbedOptions, embed
from cvgeo.pipelines.refine import climb
from cvgeo.pipelines.search import Searcher, SearchOptions, find_places
from cvgeo.report import Reporter
from cvgeo.retrieval.locate import AXES_SD, ellipses


def hill(north, east, north_width=12.0, east_width=12.0):
    """A model of known response: the score falls with the square of the distance from the place."""
    seen = []

    def scores_at(points_north, points_east):
        seen.extend(zip(points_north.tolist(), points_east.tolist(), strict=True))
        square = ((points_north - north) / north_width) ** 2 + ((points_east - east) / east_width) ** 2
        return 0.8 - 0.5 * square / 30.0

    scores_at.seen = seen
    return scores_at


@pytest.mark.parametrize("place", [(0.0, 0.0), (13.0, -22.0), (-27.5, 8.4), (29.0, 29.0)])
def test_a_planted_place_is_found(place):
    scores_at = hill(*place)
    found = climb(scores_at, np.zeros((1, 2)), 60.0, 300.0)
    assert np.abs(found.mean - place).max() < 1.9
    assert len(scores_at.seen) == found.tiles == len(set(scores_at.seen)) <= 75


def test_of_several_candidates_the_best_one_is_followed():
    starts = np.array([[0.0, 0.0], [400.0, 100.0], [-300.0, 0.0]])
    found = climb(hill(388.0, 93.0), starts, 60.0, 300.0)
    assert np.abs(found.mean - (388.0, 93.0)).max() < 1.9
    assert found.order.tolist() == [1, 0, 2]


def test_of_tiles_that_overlap_the_place_belongs_to_the_one_that_has_it_nearest_to_its_middle():
    peak = hill(18.0, 0.0)

    def scores_at(north, east):
        return np.maximum(peak(north, east), np.where(north <= 5.0, 0.75, 0.0))

    found = climb(scores_at, np.array([[0.0, 0.0], [30.0, 0.0]]), 60.0, 300.0)
    assert np.abs(found.mean - (18.0, 0.0)).max() < 1.9
    assert found.order.tolist() == [1, 0]


def test_the_ellipse_is_as_wide_as_the_response():
    # exp(30 * score) is a normal distribution of 12 m to the north and 5 m to the east.
    found = climb(hill(2.0, 1.0, 9.0, 5.0), np.zeros((1, 2)), 120.0, 30.0)
    spread = ellipses(found.covariance[None])
    assert spread.major_m[0] == pytest.approx(9.0 * AXES_SD, rel=0.25)
    assert spread.minor_m[0] == pytest.approx(5.0 * AXES_SD, rel=0.35)
    assert min(spread.azimuth[0], 180 - spread.azimuth[0]) < 5


def test_ground_without_imagery_is_passed_over():
    def scores_at(north, east):
        return np.where(north > 0, hill(20.0, 0.0)(north, east), -np.inf)

    found = climb(scores_at, np.zeros((1, 2)), 60.0, 300.0)
    assert np.abs(found.mean - (20.0, 0.0)).max() < 2.5
    with pytest.raises(InputError, match="covers none"):
        climb(lambda north, east: np.full(len(north), -np.inf), np.zeros((1, 2)), 60.0, 300.0)


PLACES, GSD, RING_METRES = 6, 0.4, 32.0
OFFSET = (7.0, -5.0)  # metres north and east


@pytest.fixture(scope="module")
def area(tmp_path_factory, make_rings, rings_model):
    """A store of six tiles, and imagery that shows them; but where it shows the third one, a place that is in no tile
    lies a little beside it, whose panorama, turned by a quarter, is `turned.png`.
    """
    folder = tmp_path_factory.mktemp("area")
    data = make_rings(folder / "data", train=PLACES, val=1)
    pictures = folder / "data" / "pictures"
    utm = rasterio.crs.CRS.from_epsg(32633)
    x, y = (np.asarray(one, float) for one in latlon_to_map(data.tiles.lat[:PLACES], data.tiles.lon[:PLACES], utm))
    west, north, side = x.min() - 60, y.max() + 60, round(RING_METRES / GSD)
    size = int((y.max() - y.min() + 120) / GSD), int((x.max() - x.min() + 120) / GSD)
    image = np.full((*size, 3), 128, np.uint8)
    for number in range(PLACES):
        shown, moved = (PLACES, OFFSET) if number == 2 else (number, (0.0, 0.0))
        top = round((north - y[number] - moved[0]) / GSD - side / 2)
        left = round((x[number] + moved[1] - west) / GSD - side / 2)
        tile = cv2.imread(str(pictures / f"aerial{shown:03d}.png"))[:, :, ::-1]
        image[top : top + side, left : left + side] = cv2.resize(tile, (side, side))
    about = {"driver": "GTiff", "height": size[0], "width": size[1], "count": 3, "dtype": "uint8"}
    with rasterio.open(
        folder / "area.tif", "w", **about, crs=utm, transform=from_origin(west, north, GSD, GSD)
    ) as file:
        file.write(image.transpose(2, 0, 1))
    panorama = cv2.imread(str(pictures / f"ground{PLACES:03d}.png"))
    cv2.imwrite(str(folder / "turned.png"), np.roll(panorama, -panorama.shape[1] // 4, axis=1))
    call = {"reporter": Reporter(), "model": str(rings_model()), "options": EmbedOptions(device="cpu", jobs=1)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVGEO_STATE", str(folder / "state"))
        embed([], folder / "tiles.h5", dataset=str(folder / "data"), split="train", **call)
    return folder


def refined(folder, candidates, **options):
    wanted = SearchOptions(
        stated=StatedPose(heading_unknown=True),
        device="cpu",
        refine=str(folder / "area.tif"),
        candidates=candidates,
        **options,
    )
    searcher = Searcher(str(folder / "tiles.h5"), None, None, wanted, Reporter())
    (found,) = find_places([str(folder / "turned.png")], searcher, Reporter(), 1)
    records = list(found.records(searcher.store))
    searcher.close()
    return records


def test_a_worse_tile_wins_where_its_surroundings_fit_better(area):
    before = refined(area, 1, k=PLACES)
    assert before[0]["tile"] != "t002"
    hits = refined(area, PLACES, k=3)
    assert [hit["rank"] for hit in hits] == [1, 2, 3] and hits[0]["tile"] == "t002"
    north, east = (hits[0]["lat"] - 52.002) * 111_270, (hits[0]["lon"] - 13) * 68_680
    assert np.hypot(north - OFFSET[0], east - OFFSET[1]) < 0.5 * np.hypot(*OFFSET)
    assert hits[0]["score"] > before[0]["score"]


def test_the_heading_is_taken_again_where_the_place_is_refined(area):
    (hit,) = refined(area, PLACES, k=1)
    assert abs((hit["heading"] - 90 + 180) % 360 - 180) < 15 and 0 < hit["heading_sd"] < 180


def test_by_azimuth_maps_the_heading_is_taken_again_as_well(area, rings_model):
    (own,) = refined(area, PLACES, k=1)
    (hit,) = refined(area, PLACES, k=1, azimuth=str(rings_model()))
    assert hit["heading"] == pytest.approx(own["heading"], abs=0.5)
    assert hit["heading_sd"] == pytest.approx(own["heading_sd"], rel=0.05)
