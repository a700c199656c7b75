from __future__ import annotations

import builtins

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from cvgeo.data.readers import open_dataset, readers
from cvgeo.data.readers.cvact import within
from cvgeo.errors import CvgeoError, InputError


@pytest.fixture
def cvact(make_dataset, tmp_path):
    return make_dataset("cvact", tmp_path / "cvact", ground_size=(26, 52), aerial_size=16)


def test_layout(cvact):
    dataset = open_dataset(cvact)
    assert [one.name for one in readers().values() if one.recognises(cvact)] == ["cvact"]
    assert {name: len(dataset.subset(name).panoramas) for name in dataset.splits()} == {"test": 6, "train": 8, "val": 5}
    assert dataset.conventions.ground_rows == (208, 624, 832) and dataset.conventions.fit == "stretch"
    assert dataset.conventions.aligned and set(dataset.panoramas.column0_heading) == {180.0}
    assert all(path.is_file() for path in dataset.panoramas.path + dataset.tiles.path)
    np.testing.assert_allclose(dataset.tiles.gsd_m, 0.1218, atol=1e-4)
    np.testing.assert_allclose([dataset.panoramas.lat[0], dataset.panoramas.lon[0]], [-35.3152, 149.0900], atol=1e-3)


def test_both_protocols_of_the_test_set(cvact):
    near, exact = (open_dataset(f"{cvact}:{name}") for name in ("test-5m", "test-id"))
    assert near.protocols == {"train": "one tile a query, by id", "val": "one tile a query, by id", "test": "test-5m"}
    assert exact.subset("test").protocols == {"test": "test-id"}
    assert len(exact.pairs) == 19 and len(near.pairs) == 21
    added = sorted(zip(near.pairs.panorama[19:].tolist(), near.pairs.tile[19:].tolist(), strict=True))
    assert added == [(13, 14), (14, 13)]
    np.testing.assert_allclose(sorted(near.pairs.offset_north_m[19:]), [-3, 3], atol=1e-6)
    assert open_dataset(cvact).protocols == near.protocols


def test_pairs_within_a_distance_are_those_of_a_loop():
    points = np.random.default_rng(0).uniform(0, 40, (60, 2))
    expected = {(i, j) for i in range(60) for j in range(60) if np.hypot(*(points[i] - points[j])) <= 5}
    assert set(zip(*(rows.tolist() for rows in within(points, 5.0)), strict=True)) == expected


def test_without_the_test_pictures_there_is_no_test_split(make_dataset, tmp_path):
    folder = make_dataset("cvact", tmp_path / "c", test=0, ground_size=(26, 52), aerial_size=16)
    assert open_dataset(folder).splits() == ["train", "val"]


def test_faults(cvact, monkeypatch):
    path = cvact / "ACT_data.mat"
    values = {name: value for name, value in loadmat(path).items() if not name.startswith("__")}
    for change, message in (
        ({"utm": values["utm"][:3]}, r"utm has shape \(3, 2\) for 19 panoIds"),
        ({"trainSet": {"trainInd": np.array([[20.0]])}}, "trainSet.trainInd names rows that are not in panoIds"),
        ({"trainSet": {"other": np.array([[1.0]])}}, "has no trainSet.trainInd"),
    ):
        savemat(path, values | change)
        with pytest.raises(InputError, match=message):
            open_dataset(cvact)
    savemat(path, {"utm": values["utm"]})
    with pytest.raises(InputError, match="has no variable panoIds"):
        open_dataset(cvact)
    path.write_bytes(b"no table" * 40)
    with pytest.raises(InputError, match="is not a readable MATLAB file"):
        open_dataset(cvact)
    real = builtins.__import__

    def without_scipy(name, *rest, **more):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    with pytest.raises(CvgeoError, match=r"needs SciPy; pip install 'cvgeo\[cvact\]'"):
        open_dataset(cvact)
