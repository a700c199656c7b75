"""The columns of a store beside its vectors, read from its files as they are asked for.

What a search holds of them is thus some numbers a row, however many rows there are: ids and paths are read for the few
rows that it names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np

from cvgeo.retrieval.rows import COLUMNS, TEXTS, RowFile, StoreRows

BLOCK_ROWS = 4096


class LiveRows:
    """Which rows of several files count, and where each stands among all of them.

    Attributes: `files`; `rows`, of each file those that count (n,), ascending; `starts`, before which row of the whole
    each file begins, (files + 1,).
    """

    def __init__(self, files: Sequence[RowFile]):
        self.files = list(files)
        self.rows = _newest(self.files)
        self.starts = np.concatenate([[0], np.cumsum([len(rows) for rows in self.rows])]).astype(np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def by_file(self, rows: np.ndarray) -> Iterator[tuple[RowFile, np.ndarray, np.ndarray]]:
        """For each file that has some of these rows (n,): the file, their places in `rows`, and its own row numbers.

        Raises IndexError for a row that is not there.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError("row outside the store")
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(numbers):
            here = np.flatnonzero(numbers == number)
            yield self.files[number], here, self.rows[number][rows[here] - self.starts[number]]


def _digests(texts: Iterable[str]) -> np.ndarray:
    # 128 bits: that two ids of 10^9 share them is less probable than that the memory errs.
    encoded = (text.encode("utf-8", "surrogateescape") for text in texts)
    joined = b"".join(hashlib.blake2b(text, digest_size=16).digest() for text in encoded)
    return np.frombuffer(joined, dtype=np.uint64).reshape(-1, 2)


def _newest(files: list[RowFile]) -> list[np.ndarray]:
    """Of each file the rows (n,) whose id stands in no later row."""
    if len(files) == 1:
        return [np.arange(len(files[0]))]
    keys = np.concatenate([_digests(file.text("id")) for file in files])
    order = np.lexsort(keys.T)
    last = np.ones(len(keys), dtype=bool)
    last[:-1] = (keys[order[1:]] != keys[order[:-1]]).any(axis=1)
    alive = np.sort(order[last])
    ends = np.cumsum([len(file) for file in files])
    parts = np.split(alive, np.searchsorted(alive, ends[:-1]))
    return [rows - (end - len(file)) for rows, end, file in zip(parts, ends, files, strict=True)]


class TextColumn(Sequence[str]):
    """The texts of all live rows, none of them held."""

    def __init__(self, name: str, live: LiveRows):
        self.name, self._live = name, live

    def __len__(self) -> int:
        return len(self._live)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return self.take(np.arange(len(self))[row])
        return self.take(np.array([row]))[0]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK_ROWS):
            yield from self.take(np.arange(start, min(start + BLOCK_ROWS, len(self))))

    def take(self, rows: np.ndarray) -> list[str]:
        """The texts of these rows, in this order."""
        found = np.empty(len(rows), dtype=object)
        for file, here, own in self._live.by_file(rows):
            found[here] = file.text_of(self.name, own)
        return found.tolist()


class StoreColumns:
    """All columns of the live rows but the vectors.

    `id` and `path` are read where they are asked for. `lat`, `lon`, `gsd_m`, `ground_m`, `content_hash`, `placement`,
    `size` and `mtime_ns`, as `StoreRows` has them, are held from the first time that one is asked for as a whole.
    """

    lat: np.ndarray
    lon: np.ndarray
    gsd_m: np.ndarray
    ground_m: np.ndarray
    content_hash: np.ndarray
    placement: np.ndarray
    size: np.ndarray
    mtime_ns: np.ndarray

    def __init__(self, live: LiveRows):
        self._live = live
        self.id, self.path = (TextColumn(name, live) for name in TEXTS)

    def __len__(self) -> int:
        return len(self._live)

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in COLUMNS:
            raise AttributeError(name)
        live = self._live
        whole = np.concatenate([file.column(name)[rows] for file, rows in zip(live.files, live.rows, strict=True)])
        setattr(self, name, whole)
        return whole

    def take(self, rows: np.ndarray) -> StoreRows:
        """These rows, in this order, with vectors of length 0."""
        rows = np.asarray(rows, dtype=np.int64)
        texts = {name: getattr(self, name).take(rows) for name in TEXTS}
        vectors = np.zeros((len(rows), 0))
        return StoreRows.of(
            texts["id"], vectors, texts["path"], **{name: self._of(name, rows) for name in COLUMNS}, azimuth=vectors
        )

    def _of(self, name: str, rows: np.ndarray) -> np.ndarray:
        if name in vars(self):
            return vars(self)[name][rows]
        parts = [(here, file.column_of(name, own)) for file, here, own in self._live.by_file(rows)]
        found = np.empty((len(rows), *COLUMNS[name][1]), COLUMNS[name][0])
        for here, values in parts:
            found[here] = values
        return found
