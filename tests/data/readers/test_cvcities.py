from __future__ import annotations

import numpy as np
import pytest

from cvgeo.data.missing import without_missing
from cvgeo.data.readers import open_dataset, readers
from cvgeo.errors import InputError
from cvgeo.report import Reporter

SMALL = {"pairs": 3, "ground_size": (8, 16), "aerial_size": 8}


@pytest.fixture
def cvcities(make_dataset, tmp_path):
    return make_dataset("cvcities", tmp_path / "c", cities=("tokyo", "london", "taipei", "tainan"), **SMALL)


def test_layout(cvcities):
    dataset = open_dataset(cvcities)
    assert [one.name for one in readers().values() if one.recognises(cvcities)] == ["cvcities"]
    assert {name: len(dataset.subset(name).pairs) for name in dataset.splits()} == {"other": 3, "test": 6, "train": 3}
    assert set(dataset.subset("test").tiles.source) == {"london", "taipei"}
    assert set(dataset.subset("train").panoramas.source) == {"tokyo"}
    london = dataset.subset(source="london").panoramas
    np.testing.assert_allclose([london.lat[1], london.lon[1]], [51.512, -0.129], atol=1e-9)
    assert london.id[1] == "london/pano_images/london_00001"
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)
    assert np.array_equal(dataset.pairs.panorama, dataset.pairs.tile) and not dataset.pairs.offset_north_m.any()


def test_what_the_source_does_not_say_is_unknown(cvcities):
    dataset = open_dataset(cvcities)
    assert np.isnan(dataset.panoramas.column0_heading).all() and np.isnan(dataset.tiles.gsd_m).all()
    assert set(dataset.panoramas.hfov) == {360.0} and dataset.conventions.aligned
    assert "within each city" in dataset.subset("test").protocols["test"]


def test_all_sixteen_cities_have_a_split(make_dataset, tmp_path):
    from cvgeo.data.readers.cvcities import CITIES

    every = [city for cities in CITIES.values() for city in cities]
    folder = make_dataset("cvcities", tmp_path / "all", cities=tuple(every), **SMALL | {"pairs": 1})
    dataset = open_dataset(folder)
    assert {name: len(dataset.subset(name).pairs) for name in dataset.splits()} == {"test": 6, "train": 10}


def test_backslashes_and_shared_tiles(cvcities):
    info = cvcities / "london" / "img_info.csv"
    lines = info.read_text().splitlines()
    lines[1] = lines[1].replace("satellite_images/london_00001", "satellite_images/london_00000")
    info.write_text("\n".join(lines).replace("/", "\\") + "\n")
    dataset = open_dataset(cvcities)
    part = dataset.subset(source="london")
    assert len(part.tiles) == 2 and part.pairs.tile.tolist() == [0, 0, 1]
    assert all(path.is_file() for path in part.panoramas.path)
    taipei = dataset.subset(source="taipei")
    assert [taipei.tiles.path[row].stem for row in taipei.pairs.tile] == [path.stem for path in taipei.panoramas.path]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("-0.129000,51.512000", "51.512,139.7", "img_info.csv: line 2: latitude 139.7: -90 to 90 is due"),
        ("-0.129000", "west", "line 2: longitude 'west' is not a number"),
        (",london/pano_images/london_00001.jpg", "", "line 2: 5 fields where 6 are due"),
        ("pano_images/london_00001", "pano_images/london_00000", "line 2: panorama .* is also in line 1"),
    ],
)
def test_faults_name_the_line(cvcities, old, new, message):
    info = cvcities / "london" / "img_info.csv"
    assert old in info.read_text()
    info.write_text(info.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        open_dataset(cvcities)


def test_missing_and_empty(cvcities):
    dataset = open_dataset(cvcities)
    dataset.panoramas.path[0].unlink()
    with pytest.raises(InputError, match="1 of 24 pictures are missing: london/pano_images/london_00000"):
        without_missing(dataset, False, Reporter())
    assert len(without_missing(dataset, True, Reporter()).pairs) == 11
    for info in cvcities.glob("*/img_info.csv"):
        info.write_text("")
    with pytest.raises(InputError, match=r"london/img_info.csv: lists no pictures"):
        open_dataset(cvcities)
