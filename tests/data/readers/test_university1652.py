from __future__ import annotations

import shutil

import numpy as np
import pytest

from cvgeo.data.readers import open_dataset, readers
from cvgeo.errors import InputError, UsageError


@pytest.fixture
def university(make_dataset, tmp_path):
    return make_dataset("university1652", tmp_path / "u", size=8)


def buildings(table, rows):
    return [table.path[row].parent.name for row in rows]


def test_street_is_the_default(university):
    dataset = open_dataset(university)
    assert [one.name for one in readers().values() if one.recognises(university)] == ["university1652"]
    train, test = dataset.subset("train"), dataset.subset("test")
    # Five buildings, one of them without a picture from the street; four with two queries each, two distractors.
    assert (len(train.panoramas), len(train.tiles), len(train.pairs)) == (8, 5, 8)
    assert (len(test.panoramas), len(test.tiles), len(test.pairs)) == (8, 6, 8)
    for part in (train, test):
        assert buildings(part.panoramas, part.pairs.panorama) == buildings(part.tiles, part.pairs.tile)
    assert test.panoramas.id[0] == "test/query_street/0005/1.jpg" and test.protocols == {"test": "street to satellite"}
    distractors = {path.parent.name for path in test.tiles.path} - set(buildings(test.tiles, test.pairs.tile))
    assert distractors == {"0009", "0010"}


def test_everything_that_is_not_stated_is_unknown(university):
    dataset = open_dataset(university)
    for values in (dataset.panoramas.lat, dataset.panoramas.hfov, dataset.panoramas.column0_heading):
        assert np.isnan(values).all()
    assert np.isnan(dataset.tiles.gsd_m).all() and np.isnan(dataset.pairs.offset_north_m).all()
    assert dataset.conventions.aligned is None and dataset.conventions.fit == "stretch"


def test_variants(university):
    drone, google = open_dataset(f"{university}:drone"), open_dataset(f"{university}:street-google")
    assert len(drone.subset("train").pairs) == 15 and len(drone.subset("test").pairs) == 12
    assert {path.parents[1].name for path in drone.panoramas.path} == {"drone", "query_drone"}
    assert len(google.subset("train").pairs) == 9 and len(google.subset("test").pairs) == 8
    assert google.protocols["test"] == "street to satellite" and "google" in google.protocols["train"]
    with pytest.raises(UsageError, match=r"no variant 'dron'; did you mean drone\?"):
        open_dataset(f"{university}:dron")


def test_parts_of_it(university):
    shutil.rmtree(university / "train")
    assert open_dataset(university).splits() == ["test"]
    shutil.rmtree(university / "test" / "query_street")
    with pytest.raises(InputError, match=r"no pictures for the variant street; train/street or test/query_street is"):
        open_dataset(university)
    assert open_dataset(f"{university}:drone").splits() == ["test"]


def test_a_picture_outside_a_building_is_named(university):
    shutil.copy(university / "train" / "satellite" / "0000" / "0000.jpg", university / "train" / "satellite" / "x.jpg")
    with pytest.raises(InputError, match=r"x.jpg: is not in the folder of a building; train/satellite/BUILDING/PICT"):
        open_dataset(university)


def test_a_building_of_two_tiles(university):
    home = university / "test" / "gallery_satellite" / "0005"
    shutil.copy(home / "0005.jpg", home / "again.jpg")
    test = open_dataset(university).subset("test")
    assert len(test.tiles) == 7 and test.pairs.tile.tolist()[:4] == [0, 1, 0, 1]
