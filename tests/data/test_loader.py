from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cvgeo.config.schema import ViewConfig
from cvgeo.data.dataset_files import read_dataset
from cvgeo.data.loader import PairBatch, PairLoader, dataset_fingerprint, read_ahead, views_size, worker_count
from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError
from cvgeo.report import Reporter

VIEW = ViewConfig(ground_height=16, ground_width=32, aerial_height=16, aerial_width=32)
BATCHES = [np.array([[3, 3], [0, 0], [7, 7]]), np.array([[1, 1], [5, 5], [2, 2]])]


@pytest.fixture
def rings(make_rings: Callable[..., Dataset], tmp_path: Path) -> Dataset:
    return make_rings(tmp_path / "rings", train=8, val=0)


def loader(dataset: Dataset, memory: int, jobs: int = 1) -> tuple[PairLoader, Reporter]:
    reporter = Reporter()
    return PairLoader(dataset, VIEW, jobs=jobs, memory=memory, reporter=reporter), reporter


def equal(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("jobs", [1, 2])
def test_held_and_streamed_pairs_are_the_same(rings: Dataset, partial: bool, jobs: int) -> None:
    if partial:
        rings.panoramas.hfov[:] = 270.0
    held, streamed = loader(rings, 1 << 30)[0], loader(rings, 0, jobs)[0]
    assert held.held_bytes == views_size(rings, VIEW)
    assert streamed.held_bytes == 0
    for one, other in zip(held.pairs(BATCHES), streamed.pairs(BATCHES), strict=True):
        assert torch.equal(one.ground, other.ground)
        assert torch.equal(one.aerial, other.aerial)
        assert equal(one.mask, other.mask)
        assert (one.mask is not None) == partial


def test_held_and_streamed_single_views_are_the_same(rings: Dataset) -> None:
    held, streamed = loader(rings, 1 << 30)[0], loader(rings, 0)[0]
    for kind in ("ground", "aerial"):
        for one, other in zip(held.single(kind, 3), streamed.single(kind, 3), strict=True):
            assert one[0].tolist() == other[0].tolist()
            assert torch.equal(one[1], other[1])
            assert equal(one[2], other[2])


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_broken_pictures_are_reported_once_and_left_out(rings: Dataset, memory: int) -> None:
    Path(rings.panoramas.path[3]).write_bytes(b"no picture")
    Path(rings.tiles.path[5]).unlink()
    pairs, reporter = loader(rings, memory)
    rows = [rows.tolist() for rows, _, _ in pairs.single("ground", 4)]
    assert rows == [[0, 1, 2], [4, 5, 6, 7]]
    assert sum(len(rows) for rows, _, _ in pairs.single("aerial", 4)) == 7
    list(pairs.single("ground", 4))
    assert sorted(Path(item).name for item, _ in reporter.failures) == ["aerial005.png", "ground003.png"]
    if memory:
        assert pairs.broken_panoramas == [3]
        assert pairs.broken_tiles == [5]
    else:
        assert [len(batch.ground) for batch in pairs.pairs(BATCHES)] == [2, 2]
        assert len(reporter.failures) == 2


def test_a_batch_of_broken_pictures_is_empty(rings: Dataset) -> None:
    for path in rings.tiles.path:
        Path(path).write_bytes(b"")
    (batch,) = loader(rings, 0)[0].pairs(BATCHES[:1])
    assert len(batch.ground) == 0
    assert len(batch.failures) == 3


def test_fingerprint_survives_moving_and_notices_changes(rings: Dataset, tmp_path: Path) -> None:
    before = dataset_fingerprint(read_dataset(rings.root))
    moved = shutil.move(rings.root, tmp_path / "elsewhere")
    again = read_dataset(moved)
    assert dataset_fingerprint(again) == before
    again.panoramas.column0_heading[2] += 1
    assert dataset_fingerprint(again) != before
    again = read_dataset(moved)
    again.pairs.role[0] = 1
    assert dataset_fingerprint(again) != before
    again = read_dataset(moved)
    again.pairs.offset_east_m[0] = 1
    assert dataset_fingerprint(again) != before
    again = read_dataset(moved)
    with open(again.tiles.path[0], "ab") as file:
        file.write(b"x")
    assert dataset_fingerprint(again) != before


def test_worker_counts() -> None:
    assert worker_count(1) == 0
    assert worker_count(3) == 3
    assert worker_count(0) != 1


@pytest.mark.parametrize("memory", [0, 1 << 30])
def test_semi_positive_tiles_stand_beside_their_pairs(rings: Dataset, memory: int) -> None:
    batch = np.array([[3, 3, 4], [0, 0, -1], [7, 7, 1]])
    (pairs,) = loader(rings, memory)[0].pairs([batch])
    (plain,) = loader(rings, memory)[0].pairs([np.array([[3, 4], [0, 0], [7, 1]])])
    assert torch.equal(pairs.semi, plain.aerial)
    assert pairs.rows.tolist() == batch.tolist()
    assert plain.semi is None


def test_a_broken_semi_positive_tile_takes_its_pair_along(rings: Dataset) -> None:
    Path(rings.tiles.path[4]).write_bytes(b"no picture")
    (pairs,) = loader(rings, 0)[0].pairs([np.array([[3, 3, 4], [0, 0, -1], [7, 7, 1]])])
    assert pairs.rows.tolist() == [[0, 0, -1], [7, 7, 1]]
    assert len(pairs.ground) == len(pairs.semi) == 2


def test_batches_that_are_read_ahead_are_the_same_in_the_same_order(rings: Dataset) -> None:
    batches = [np.array([[3, 3, 4], [0, 0, -1]]), np.array([[7, 7, 1]]), np.array([[1, 1, -1], [2, 2, 5]])]
    plain = list(loader(rings, 1 << 30)[0].pairs(batches))
    ahead = list(read_ahead(loader(rings, 1 << 30)[0].pairs(batches), torch.device("cpu")))
    assert [one.rows.tolist() for one in ahead] == [one.rows.tolist() for one in plain]
    for one, other in zip(ahead, plain, strict=True):
        assert torch.equal(one.ground, other.ground)
        assert torch.equal(one.semi, other.semi)


def test_an_error_of_the_reader_comes_out_where_the_batches_are_taken() -> None:
    def broken() -> Iterator[PairBatch]:
        yield PairBatch(torch.zeros(1), None, torch.zeros(1), [], np.zeros((1, 2)))
        raise InputError("no pack any more")

    taken = read_ahead(broken(), torch.device("cpu"))
    assert len(next(taken).ground) == 1
    with pytest.raises(InputError, match="no pack any more"):
        next(taken)
