"""Pairs drawn of imagery alone: what is cut, dealt, repeated, and refused; and a model trained on them."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from cvgeo.data.dataset_files import read_dataset, read_description
from cvgeo.data.geotiff import write_tile_geotiff
from cvgeo.data.sources.imagery import ImageryOptions, find_imagery
from cvgeo.data.sources.mosaic import Mosaic
from cvgeo.errors import InputError, MismatchError
from cvgeo.geometry.geodesy import distance_m
from cvgeo.pipelines.build_area import AreaSettings, build_area
from cvgeo.pipelines.tile_cutting import TileSize
from cvgeo.report import Reporter

SIZE = TileSize(32, 1.0)


@pytest.fixture(scope="module")
def ortho(tmp_path_factory):
    """Imagery of 240 m of blotches, north-up, one metre a pixel."""
    blotches = np.random.default_rng(0).integers(0, 255, (24, 24, 3), np.uint8)
    rgba = np.full((240, 240, 4), 255, np.uint8)
    rgba[..., :3] = cv2.resize(blotches, (240, 240), interpolation=cv2.INTER_NEAREST)
    path = tmp_path_factory.mktemp("area") / "ortho.tif"
    write_tile_geotiff(path, rgba, 48.0, 11.0, 1.0)
    return str(path)


def build(ortho, output, **changes):
    values = {"spacing_m": 20.0, "panorama_width": 64, "apart_m": 40.0, "val_share": 0.3, "jobs": 1} | changes
    return build_area(AreaSettings([ortho], output, SIZE, **values), Reporter())


def test_pairs_stand_where_they_say(ortho, tmp_path):
    record = build(ortho, tmp_path / "out", views=2)
    data = read_dataset(tmp_path / "out")
    assert record["panoramas"] == len(data.panoramas) == 2 * len(data.tiles) == len(data.pairs) > 60
    assert set(data.splits()) == {"train", "val"} and data.conventions.aligned
    assert "no photographs" in read_description(tmp_path / "out")["provenance"]["note"]
    with Mosaic(find_imagery([ortho])) as mosaic:
        for row in (0, len(data.tiles) - 1):
            expected, _ = mosaic.cut_tile(data.tiles.lat[row], data.tiles.lon[row], 32, 1.0)
            tile = cv2.imread(str(data.tiles.path[row]))[:, :, ::-1]
            assert np.abs(tile.astype(int) - expected).mean() < 12  # a JPEG of it
    pairs = data.pairs
    assert np.array_equal(data.panoramas.lat[pairs.panorama], data.tiles.lat[pairs.tile])
    one, other = (cv2.imread(str(data.panoramas.path[row])) for row in (0, 1))
    assert one.shape == (16, 64, 3) and not np.array_equal(one, other)
    train = np.array([name == "train" for name in data.tiles.split])
    lat, lon = data.tiles.lat, data.tiles.lon
    apart = distance_m(lat[train][:, None], lon[train][:, None], lat[~train][None], lon[~train][None])
    assert apart.min() >= 40


def test_the_same_call_gives_the_same_files_and_does_nothing_over_them(ortho, tmp_path):
    record = build(ortho, tmp_path / "one", panoramas=12)
    build(ortho, tmp_path / "two", panoramas=12, jobs=2)
    names = sorted(path.name for path in (tmp_path / "one" / "panoramas").iterdir())
    assert 0 < len(names) <= 12
    for name in names:
        one, two = ((tmp_path / folder / "panoramas" / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    before = (tmp_path / "one" / "dataset.toml").stat().st_mtime_ns
    assert build(ortho, tmp_path / "one", panoramas=12) == record
    assert (tmp_path / "one" / "dataset.toml").stat().st_mtime_ns == before
    with pytest.raises(MismatchError):
        build(ortho, tmp_path / "one", panoramas=12, seed=1)


def test_places_at_the_edge_of_the_imagery_are_left_out_and_counted(ortho, tmp_path):
    record = build(ortho, tmp_path / "out", spacing_m=15.0)
    assert record["dropped"]["margin"] > 0
    lines = (tmp_path / "out" / "dropped.csv").read_text().splitlines()
    assert any("have data" in line for line in lines)


def test_imagery_smaller_than_a_tile_is_refused(ortho, tmp_path):
    with pytest.raises(InputError, match="600 m"):
        build_area(AreaSettings([ortho], tmp_path / "out", TileSize(60, 10.0)), Reporter())
    assert not (tmp_path / "out").exists()


def test_a_part_of_the_area_can_be_taken(ortho, tmp_path):
    part = (47.9995, 10.9995, 48.0005, 11.0005)
    build(ortho, tmp_path / "out", imagery=ImageryOptions(area=part), apart_m=10.0)
    data = read_dataset(tmp_path / "out")
    assert np.all((data.tiles.lat > part[0]) & (data.tiles.lat < part[2]))
    assert json.dumps(read_description(tmp_path / "out")["provenance"]["settings"]["bbox"]) == json.dumps(list(part))
