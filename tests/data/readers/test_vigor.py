from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cvgeo.data.readers import open_dataset, readers
from cvgeo.data.schema import EVERY_SPLIT, POSITIVE, SEMI_POSITIVE
from cvgeo.errors import InputError, UsageError
from cvgeo.geometry.geodesy import offset_metres

LABELS = Path(__file__).resolve().parents[3] / ".." / "shared" / "data" / "vigor_labels"
needs_labels = pytest.mark.skipif(not LABELS.is_dir(), reason="the shared test data is not here")
# Best processor seconds of three readings, and the most memory held, in a program of its own.
MEASURE = """
import json, sys, time
sys.path.insert(0, sys.argv[2])
from tests.benchmarks.machine import peak_mib
from cvgeo.data.readers import open_dataset
seconds = []
for _ in range(3):
    started = time.process_time()
    data = open_dataset(sys.argv[1])
    seconds.append(time.process_time() - started)
print(json.dumps([min(seconds), peak_mib() * 2**20, len(data.panoramas), len(data.tiles), len(data.pairs)]))
"""


def measured(folder: Path) -> list[float]:
    call = [sys.executable, "-c", MEASURE, str(folder), str(Path(__file__).resolve().parents[3])]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.fixture
def vigor(make_dataset, tmp_path):
    return make_dataset("vigor", tmp_path / "vigor", side=3, panoramas=6, ground_size=(8, 16), aerial_size=8)


def test_same_area(vigor):
    dataset = open_dataset(vigor)
    assert [one.name for one in readers().values() if one.recognises(vigor)] == ["vigor"]
    assert dataset.splits() == ["test", "train"] and set(dataset.tiles.split) == {EVERY_SPLIT}
    assert (len(dataset.panoramas), len(dataset.tiles), len(dataset.pairs)) == (24, 36, 96)
    for split in ("train", "test"):
        part = dataset.subset(split)
        assert (len(part.panoramas), len(part.tiles), len(part.pairs)) == (12, 36, 48)
        assert list(part.protocols) == [split] and part.protocols[split].startswith("same-area, corrected labels")
    assert not set(dataset.subset("train").panoramas.id) & set(dataset.subset("test").panoramas.id)
    assert dataset.pairs.role.tolist() == [POSITIVE, *[SEMI_POSITIVE] * 3] * 24
    assert set(dataset.panoramas.column0_heading) == {180.0} and dataset.conventions.fit == "stretch"
    assert dataset.conventions.aligned is False
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)
    assert all(path.name.endswith(",.jpg") for path in dataset.panoramas.path)
    gsd = dict(zip(dataset.tiles.source, dataset.tiles.gsd_m.tolist(), strict=True))
    assert gsd == {"Chicago": 0.1112, "NewYork": 0.113248, "SanFrancisco": 0.118141, "Seattle": 0.100817}


def test_offsets_are_panorama_minus_tile(vigor):
    dataset = open_dataset(vigor)
    panoramas, tiles, pairs = dataset.panoramas, dataset.tiles, dataset.pairs
    tile, panorama = pairs.tile, pairs.panorama
    north, east = offset_metres(tiles.lat[tile], tiles.lon[tile], panoramas.lat[panorama], panoramas.lon[panorama])
    np.testing.assert_allclose(pairs.offset_north_m, north, atol=0.3)
    np.testing.assert_allclose(pairs.offset_east_m, east, atol=0.3)
    assert np.abs(north).max() > 10
    apart = np.hypot(pairs.offset_north_m, pairs.offset_east_m).reshape(-1, 4)
    assert (apart.argmin(axis=1) == 0).all()


def test_cross_area(vigor):
    dataset = open_dataset(f"{vigor}:cross")
    train, test = dataset.subset("train"), dataset.subset("test")
    assert set(train.tiles.source) == set(train.panoramas.source) == {"NewYork", "Seattle"}
    assert set(test.tiles.source) == set(test.panoramas.source) == {"Chicago", "SanFrancisco"}
    assert len(train.pairs) == len(test.pairs) == 48 and test.protocols["test"].startswith("cross-area")


def test_labels_are_corrected_unless_told(vigor):
    path = vigor / "splits__corrected" / "Seattle" / "same_area_balanced_train__corrected.txt"
    fields = path.read_text().split("\n")[0].split(" ")
    fields[2] = "100.0"
    path.write_text("\n".join([" ".join(fields), *path.read_text().split("\n")[1:]]))
    seattle, original = (open_dataset(f"{vigor}{one}").subset(source="Seattle") for one in ("", ":same-original"))
    np.testing.assert_allclose(seattle.pairs.offset_north_m[0], -100 * 0.100817)
    assert original.pairs.offset_north_m[0] != seattle.pairs.offset_north_m[0]
    path.unlink()
    assert open_dataset(vigor).provenance["labels"] == "original"


def test_other_layouts_and_fewer_cities(make_dataset, tmp_path):
    small = {"side": 2, "panoramas": 4, "ground_size": (8, 16), "aerial_size": 8}
    folder = make_dataset(
        "vigor", tmp_path / "s", arrangement="sample4geo", labels=("splits",), cities=("Seattle",), **small
    )
    dataset = open_dataset(folder)
    assert dataset.provenance == {"protocol": "same", "labels": "original", "cities": ["Seattle"]}
    assert dataset.panoramas.path[0].parent == folder / "ground" / "Seattle"
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" satellite_", " ", "line 1: tile .* is not in satellite_list.txt; the labels and the list belong together"),
        (".0 satellite_", ".0 7 satellite_", "line 1: 14 fields where 13 are due"),
        (",.jpg", ".jpg", "line 1: '.*.jpg' is not a number"),
        (",.jpg ", ",.jpg x", "line 1: tile xsatellite_.* is not in"),
    ],
)
def test_faults_name_the_line(make_dataset, tmp_path, old, new, message):
    folder = make_dataset("vigor", tmp_path / "v", side=2, panoramas=4, pictures=False)
    path = folder / "splits__corrected" / "Chicago" / "same_area_balanced_test__corrected.txt"
    text = path.read_text()
    path.write_text(text.replace(old, new, 1) if old in text else text.replace(" satellite_", " 7 satellite_", 1))
    with pytest.raises(InputError, match=message) as caught:
        open_dataset(folder)
    assert str(path) in str(caught.value)


def test_unknown_variants_and_missing_labels(vigor):
    with pytest.raises(UsageError, match=r"vigor has no variant 'crss'; did you mean cross\?"):
        open_dataset(f"{vigor}:crss")
    with pytest.raises(UsageError, match=r"no variant 'zzz'; known: same: each city"):
        open_dataset(f"{vigor}:zzz")
    (vigor / "splits" / "Chicago" / "same_area_balanced_test.txt").unlink()
    with pytest.raises(
        InputError, match=r"same_area_balanced_test.txt: no such label file; put VIGOR's original labels"
    ):
        open_dataset(f"{vigor}:same-original")


@needs_labels
def test_official_labels():
    seconds, _, panoramas, tiles, pairs = measured(LABELS)
    assert (panoramas, tiles, pairs) == (49_230, 43_084, 4 * 49_230)
    assert seconds <= 1
    dataset = open_dataset(LABELS)
    assert len(set(dataset.panoramas.id)) == panoramas and len(set(dataset.tiles.id)) == tiles
    tile, panorama = dataset.pairs.tile, dataset.pairs.panorama
    north, east = offset_metres(
        dataset.tiles.lat[tile],
        dataset.tiles.lon[tile],
        dataset.panoramas.lat[panorama],
        dataset.panoramas.lon[panorama],
    )
    assert np.median(np.abs(north - dataset.pairs.offset_north_m)) < 0.3
    assert np.median(np.abs(east - dataset.pairs.offset_east_m)) < 0.3


def test_a_whole_vigor_is_read_fast(make_dataset, tmp_path):
    folder = make_dataset("vigor", tmp_path / "v", side=150, panoramas=13_000, pictures=False, labels=("splits",))
    seconds, peak, panoramas, tiles, _ = measured(folder)
    assert (panoramas, tiles) == (52_000, 90_000)
    assert seconds <= 3 and peak <= 2**30
