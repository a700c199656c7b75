from __future__ import annotations

import pytest

from cvgeo.data.missing import is_there, without_missing
from cvgeo.data.readers import open_dataset
from cvgeo.errors import InputError
from cvgeo.report import Reporter


@pytest.fixture
def vigor(make_dataset, tmp_path):
    return make_dataset("vigor", tmp_path / "v", side=2, panoramas=4, ground_size=(8, 16), aerial_size=8)


def test_all_there(vigor):
    dataset = open_dataset(vigor)
    assert is_there(dataset.tiles.path).all() and not is_there([vigor / "no" / "such.png"]).any()
    assert without_missing(dataset, False, Reporter()) is dataset


def test_missing_ones_are_counted_and_named(vigor):
    dataset = open_dataset(vigor)
    for path in [*dataset.tiles.path[:3], dataset.panoramas.path[0]]:
        path.unlink()
    with pytest.raises(InputError) as caught:
        without_missing(dataset, False, Reporter())
    text = str(caught.value)
    assert "4 of 32 pictures are missing: " in text and "and 1 more" in text and "--skip-missing" in text
    assert dataset.panoramas.path[0].name in text
    left = without_missing(dataset, True, Reporter())
    assert (len(left.panoramas), len(left.tiles)) == (15, 13) and is_there(left.tiles.path).all()
    alone = without_missing(dataset, True, Reporter(), ("aerial",))
    assert (len(alone.panoramas), len(alone.tiles)) == (16, 13)


def test_of_aligned_pairs_the_whole_pair_goes(make_dataset, tmp_path):
    folder = make_dataset("cvact", tmp_path / "c", ground_size=(26, 52), aerial_size=16)
    dataset = open_dataset(f"{folder}:test-id")
    dataset.panoramas.path[0].unlink()
    left = without_missing(dataset, True, Reporter())
    assert len(left.panoramas) == len(left.tiles) == len(left.pairs) == 18 and left.panoramas.id == left.tiles.id


def test_a_set_without_any_picture_is_refused_all_the_same(make_dataset, tmp_path):
    dataset = open_dataset(make_dataset("vigor", tmp_path / "v", side=2, panoramas=4, pictures=False))
    with pytest.raises(InputError, match="32 of 32 pictures are missing"):
        without_missing(dataset, True, Reporter())
