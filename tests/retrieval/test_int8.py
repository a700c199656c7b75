"""Stores of 8 bits a number against the rounding written out number by number."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cvgeo.errors import InputError, MismatchError
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, writing
from cvgeo.retrieval.exact import search
from cvgeo.retrieval.rows import in_eight_bits

HALF = StoreHeader(fingerprint="f" * 64, dimension=24, view="aerial", model="tiny")
INT8 = replace(HALF, storage="int8")


def literally(row: list[float]) -> list[float]:
    """A row as it comes back: each number the nearest of 255 multiples of the largest over 127, kept in half."""
    scale = float(np.float16(np.float32(max(abs(number) for number in row)) / np.float32(127)))
    return [max(-127, min(127, round(number / scale))) * scale if scale else 0.0 for number in row]


def rows_of(names: list[str], seed: int = 0) -> StoreRows:
    vectors = np.random.default_rng(seed).normal(size=(len(names), 24))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return StoreRows.of(names, vectors, [f"{name}.png" for name in names], lat=np.arange(len(names)))


def made(path: Path, rows: StoreRows, header: StoreHeader = INT8) -> Path:
    with writing(path, header) as writer:
        writer.add(rows)
        writer.join()
    return path


def test_rows_come_back_as_the_rounding_says(tmp_path: Path) -> None:
    rows = rows_of([str(number) for number in range(300)])
    expected = np.array([literally(row) for row in rows.embedding.astype(float).tolist()])
    with EmbeddingStore(made(tmp_path / "x.h5", rows)) as store:
        assert store.header == INT8 and store.format_version == 3 and store.verify() == []
        np.testing.assert_allclose(store.fetch(np.array([7, 3])), expected[[7, 3]], atol=1e-7)
        for at_once in (64, 1000):
            blocks = list(store.blocks(at_once))
            np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), expected, atol=1e-7)
        found, scores = search(store, rows.embedding[:5].astype(np.float32), 3)
        products = rows.embedding[:5].astype(np.float32) @ expected.T.astype(np.float32)
        assert found[:, 0].tolist() == [0, 1, 2, 3, 4]
        np.testing.assert_allclose(scores, -np.sort(-products, axis=1)[:, :3], atol=1e-5)
        assert np.abs(expected - rows.embedding).max() <= np.abs(rows.embedding).max() * 0.0045


@given(arrays(np.float16, (3, 8), elements=st.floats(-1, 1, width=16)))
@settings(max_examples=200, deadline=None)
def test_rounding_again_changes_nothing(rows: np.ndarray) -> None:
    numbers, scale = in_eight_bits(rows)
    again, same = in_eight_bits(numbers.astype(np.float32) * scale.astype(np.float32))
    large = scale[:, 0] > 1e-4  # below, half precision itself is coarse
    np.testing.assert_array_equal(again[large], numbers[large])
    np.testing.assert_array_equal(same[large], scale[large])


def test_what_is_not_finite_is_noticed(tmp_path: Path) -> None:
    rows = rows_of(["a", "b"])
    rows.embedding[1, 3] = np.nan
    with (
        EmbeddingStore(made(tmp_path / "x.h5", rows)) as store,
        pytest.raises(InputError, match="not finite"),
    ):
        search(store, rows.embedding[:1].astype(np.float32), 1)


def test_joins_and_parts_keep_each_bit(tmp_path: Path) -> None:
    path, names = tmp_path / "x.h5", [str(number) for number in range(50)]
    with writing(path, INT8) as writer:
        writer.add(rows_of(names, 1))
        writer.add(rows_of(names[10:20], 2))
        with EmbeddingStore(path) as store:
            before, ids = store.stored(np.arange(50)), list(store.columns.id)
        writer.join()
    for _ in range(3):
        with writing(path, INT8) as writer:
            writer.join(everything=True)
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == ids
        for one, other in zip(store.stored(np.arange(50)), before, strict=True):
            np.testing.assert_array_equal(one, other)
        with writing(path, INT8) as writer:
            writer.join(keep=np.array([3, 40]))
    with EmbeddingStore(path) as store:
        assert list(store.columns.id) == [ids[3], ids[40]]
        np.testing.assert_array_equal(store.stored(np.arange(2))[0], before[0][[3, 40]])


def test_both_kinds_do_not_mix(tmp_path: Path) -> None:
    for first, second in ((HALF, INT8), (INT8, HALF)):
        path = made(tmp_path / f"{first.storage}.h5", rows_of(["a"]), first)
        with (
            pytest.raises(MismatchError, match=f"holds {first.storage} numbers, not {second.storage}.*--overwrite"),
            writing(path, second),
        ):
            pass


def test_it_takes_half_the_room_and_half_is_as_it_was(tmp_path: Path) -> None:
    rows = rows_of(["a", "b"])
    with h5py.File(made(tmp_path / "half.h5", rows, HALF)) as file:
        assert file.attrs["format_version"] == 1 and "storage" not in file.attrs and "scale" not in file
        assert file["embeddings"].dtype == np.float16
    with h5py.File(made(tmp_path / "int8.h5", rows)) as file:
        assert file.attrs["format_version"] == 3 and file.attrs["storage"] == "int8"
        assert file["embeddings"].dtype == np.int8 and file["scale"].shape == (2, 1)
    assert (HALF.row_bytes, INT8.row_bytes) == (48, 26)


@pytest.mark.parametrize("name", ["embeddings", "scale"])
def test_a_changed_bit_is_noticed(tmp_path: Path, name: str) -> None:
    path = made(tmp_path / "x.h5", rows_of(["a", "b", "c"]))
    with h5py.File(path, "r+") as file:
        bits = file[name][:]
        bits.view(np.uint8)[1, 0] ^= 1
        file[name][:] = bits
    with pytest.raises(InputError, match="damaged rows: b;"):
        EmbeddingStore(path)


def test_an_unknown_kind_of_numbers_is_told(tmp_path: Path) -> None:
    path = made(tmp_path / "x.h5", rows_of(["a"]))
    with h5py.File(path, "r+") as file:
        file.attrs["storage"] = "int4"
    with pytest.raises(InputError, match="int4"):
        EmbeddingStore(path)
