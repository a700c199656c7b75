"""The columns of a store against lists of what was written, and what they take of the memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, writing
from cvgeo.retrieval.exact import search

HEADER = StoreHeader(fingerprint="f" * 64, dimension=8, view="aerial")
Written = dict[str, tuple]


def rows_of(names: list[str], seed: int) -> StoreRows:
    generator, count = np.random.default_rng(seed), len(names)
    columns = {name: generator.normal(size=count) for name in ("lat", "lon", "gsd_m", "ground_m")}
    columns |= {name: generator.integers(0, 2**60, count) for name in ("placement", "size", "mtime_ns")}
    columns["content_hash"] = generator.integers(0, 256, (count, 32))
    return StoreRows.of(names, generator.normal(size=(count, 8)), [f"é/{name}.png" for name in names], **columns)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Written]:
    """A store of three parts, of whose rows some replace older ones, and its rows by id in the order of writing."""
    path, written = tmp_path_factory.mktemp("columns") / "tiles.h5", {}
    with writing(path, HEADER) as writer:
        for seed, (first, last) in enumerate([(0, 3000), (2500, 5000), (100, 110)]):
            rows = rows_of([f"tile {number}" for number in range(first, last)], seed)
            writer.add(rows)
            for number, id in enumerate(rows.id):
                written.pop(id, None)
                written[id] = (rows.path[number], rows.lat[number], rows.size[number], rows.content_hash[number])
    return path, written


@pytest.mark.parametrize("held", [False, True])
def test_rows_are_taken_as_they_were_written(made: tuple[Path, Written], held: bool) -> None:
    path, written = made
    ids, generator = list(written), np.random.default_rng(0)
    with EmbeddingStore(path) as store:
        if held:
            assert len(store.columns.lat) == len(store.columns.content_hash) == len(ids)
        for some in (
            np.array([], int),
            np.array([4999]),
            np.arange(2000, 3100),
            generator.integers(0, 5000, 300),
            np.array([7, 7, 3, 4000, 3]),
        ):
            taken = store.columns.take(some)
            expected = [written[ids[row]] for row in some]
            assert taken.id == [ids[row] for row in some] and taken.path == [one[0] for one in expected]
            assert taken.lat.tolist() == [one[1] for one in expected]
            assert taken.size.tolist() == [one[2] for one in expected]
            np.testing.assert_array_equal(taken.content_hash, np.array([one[3] for one in expected]).reshape(-1, 32))


def test_texts_are_a_sequence(made: tuple[Path, Written]) -> None:
    path, written = made
    with EmbeddingStore(path) as store:
        ids = store.columns.id
        assert list(ids) == list(written) and len(ids) == 5000
        assert ids[17] == list(written)[17] and ids[10:13] == list(written)[10:13]
        for row in (-1, 5000):
            with pytest.raises(IndexError):
                ids[row]
        with pytest.raises(AttributeError):
            store.columns.colour  # noqa: B018


def test_a_search_holds_few_bytes_a_row(tmp_path: Path) -> None:
    """Of made rows whose names alone take 700 bytes each."""
    path, count, generator = tmp_path / "tiles.h5", 16_000, np.random.default_rng(0)
    with writing(path, HEADER) as writer:
        for start in range(0, count, 4000):
            ids = [f"tile {number}" for number in range(start, start + 4000)]
            vectors = generator.normal(size=(4000, 8))
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            writer.add(StoreRows.of(ids, vectors, [f"{id:>690}.png" for id in ids]))
        writer.join()
    search_once(path)  # what is loaded by the first search of a process does not count
    tracemalloc.start()
    try:
        assert search_once(path) == f"{'tile 12345':>690}.png"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * count + (8 << 20)  # a block; ids and paths alone are 900 bytes a row as Python holds them


def search_once(path: Path) -> str:
    with EmbeddingStore(path) as store:
        rows, _ = search(store, store.fetch(np.array([12_345])), 5)
        assert np.isnan(store.columns.lat[rows[0]]).all()
        return store.columns.path[rows[0, 0]]
