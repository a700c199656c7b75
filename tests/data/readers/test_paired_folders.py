from __future__ import annotations

import shutil

import numpy as np
import pytest

from cvgeo.data.readers import open_dataset, reader_of, readers
from cvgeo.errors import InputError

SMALL = {"ground_size": (8, 16), "aerial_size": 8}


@pytest.fixture
def paired(make_dataset, tmp_path):
    return make_dataset("paired_folders", tmp_path / "p", **SMALL)


def rename(folder, pattern, name):
    path = next(folder.glob(pattern))
    return path.rename(path.with_name(name))


def test_splits(paired):
    dataset = open_dataset(paired)
    assert [one.name for one in readers().values() if one.recognises(paired)] == ["paired-folders"]
    assert {name: len(dataset.subset(name).pairs) for name in dataset.splits()} == {"test": 4, "train": 6}
    tiles = [dataset.tiles.path[row] for row in dataset.pairs.tile]
    for path, tile in zip((dataset.panoramas.path[row] for row in dataset.pairs.panorama), tiles, strict=True):
        assert path.stem == tile.stem and path.parents[1] == tile.parents[1]
    assert len(set(dataset.tiles.id)) == 10 and dataset.panoramas.id[0].startswith("train/0000,")
    train = dataset.subset("train").panoramas
    np.testing.assert_allclose([train.lat[2], train.lon[2]], [48.002, -11.502])
    assert np.isnan(train.column0_heading).all() and np.isnan(train.hfov).all() and dataset.conventions.fit is None


@pytest.mark.parametrize("ground", ["panoramas", "street", "streetview", "query"])
@pytest.mark.parametrize("aerial", ["aerial", "tiles", "overhead", "reference"])
def test_names_of_the_folders(make_dataset, tmp_path, ground, aerial):
    folder = make_dataset("paired_folders", tmp_path / "f", counts={"": 2}, ground=ground, aerial=aerial, **SMALL)
    dataset = open_dataset(folder)
    assert dataset.splits() == ["test"] and len(dataset.pairs) == 2
    assert dataset.panoramas.id[0] == "0000,48.000000,-11.500000,"


def test_pictures_without_a_partner(paired):
    rename(paired / "test" / "ground", "*.jpg", "alone.jpg")
    dataset = open_dataset(paired)
    test = dataset.subset("test")
    assert (len(test.panoramas), len(test.tiles), len(test.pairs)) == (4, 4, 3)
    assert dataset.provenance == {"without_partner": {"panoramas": 1, "tiles": 1}}
    assert np.isnan(test.panoramas.lat).sum() == 1


@pytest.mark.parametrize(
    ("name", "lat", "lon"),
    [
        ("a,48.5,-11.25,.jpg", 48.5, -11.25),
        ("48.5,11.25.jpg", 48.5, 11.25),
        ("satellite_-48.5_111.25.jpg", -48.5, 111.25),
        ("satellite_48.5_111.25_z20.jpg", 48.5, 111.25),
        ("place_12_34.jpg", np.nan, np.nan),
        ("111.25_48.5_x.jpg", np.nan, np.nan),
        ("place_95.5_34.5.jpg", np.nan, np.nan),
        ("v1.25.jpg", np.nan, np.nan),
    ],
)
def test_positions_in_names(make_dataset, tmp_path, name, lat, lon):
    folder = make_dataset("paired_folders", tmp_path / "f", counts={"": 1}, **SMALL)
    rename(folder / "ground", "*", name)
    rename(folder / "satellite", "*", name)
    dataset = open_dataset(folder)
    np.testing.assert_array_equal([dataset.panoramas.lat[0], dataset.tiles.lon[0]], [lat, lon])
    assert np.isnan(dataset.pairs.offset_east_m[0]) == np.isnan(lat)


def test_others_come_first(make_dataset, tmp_path):
    # VIGOR as Sample4Geo lays it out has the same two folders, University-1652 such ones in `train`.
    vigor = {"side": 2, "panoramas": 4, "ground_size": (8, 16), "aerial_size": 8}
    folders = {
        "vigor": make_dataset("vigor", tmp_path / "v", arrangement="sample4geo", **vigor),
        "university1652": make_dataset("university1652", tmp_path / "u", size=8),
        "pairs-folder": make_dataset("paired_folders", tmp_path / "p", counts={"": 2}, **SMALL),
    }
    (folders["pairs-folder"] / "pairs.csv").write_text("ground,aerial\n")
    for name, folder in folders.items():
        assert [one.name for one in readers().values() if one.recognises(folder)] == [name]
    shutil.copytree(folders["pairs-folder"] / "ground", folders["pairs-folder"] / "query")
    (folders["pairs-folder"] / "pairs.csv").unlink()
    with pytest.raises(InputError, match="no known data set layout"):  # two folders of ground pictures
        reader_of(folders["pairs-folder"])


def test_faults(paired):
    path = next((paired / "train" / "ground").iterdir())
    shutil.copy(path, path.with_suffix(".png"))
    with pytest.raises(InputError, match="has the same name as 0"):
        open_dataset(paired)
    shutil.rmtree(paired / "train")
    for number, tile in enumerate(sorted((paired / "test" / "satellite").iterdir())):
        tile.rename(tile.with_name(f"{number}.png"))
    with pytest.raises(InputError, match="no picture in test/ground has the name of one in test/satellite; give the"):
        open_dataset(paired)
