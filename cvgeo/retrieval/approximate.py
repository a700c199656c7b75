"""Approximate search: an index names candidates, and exact scores of the store's own rows put them in order.

A hit's score is therefore that of exact search; what an index can lose is a row that it does not name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from cvgeo.errors import InputError
from cvgeo.retrieval import exact
from cvgeo.retrieval.exact import Gallery
from cvgeo.retrieval.heading import Scorer
from cvgeo.retrieval.store import EmbeddingStore

CANDIDATES = 64  # named a probe, at least
CANDIDATES_A_HIT = 4
PROBES_AT_ONCE = 1024
FEW_ROWS = 20_000  # allowed: reading them takes less time than an index loses in looking past all others

Progress = Callable[[Iterable[Any], str, int], Iterator[Any]]  # passes items through, as `Reporter.track`


class Index(Protocol):
    """What names candidates: a `FaissIndex`, a `MilvusIndex`."""

    def candidates(self, probes: np.ndarray, count: int, allowed: Allowed | None) -> np.ndarray:
        """Rows (n, count) int64 that score best with descriptors (n, D), -1 where there are no more.

        Only allowed rows are named; None for all.
        """
        ...


@dataclass(frozen=True)
class Allowed:
    """Rows (n,) that a search keeps to, ascending, and the south, west, north, east of the box around them."""

    rows: np.ndarray
    box: tuple[float, float, float, float]

    @classmethod
    def of(cls, store: EmbeddingStore, rows: np.ndarray) -> Allowed:
        """These rows of a store; the box is NaN where the position of one is unknown."""
        lat, lon = store.columns.lat[rows], store.columns.lon[rows]
        return cls(rows, tuple(float(edge) for edge in (lat.min(), lon.min(), lat.max(), lon.max())))


@dataclass(frozen=True)
class Identity:
    """What a store held when an index was made: keys (N,) int64 of the rows' ids, checksums (N,) uint32 of the rows."""

    keys: np.ndarray
    checksums: np.ndarray
    digest: str
    fingerprint: str
    dimension: int

    @classmethod
    def of(cls, store: EmbeddingStore) -> Identity:
        """That of a store. Raises InputError in the case, one in 10^5 at 10^7 rows, that two ids have one key."""
        keys = row_keys(store.columns.id)
        if len(np.unique(keys)) < len(keys):
            raise InputError("two ids have the same 63-bit key", path=store.path, mend="rename a picture")
        return cls(keys, store.checksums, store.digest(), store.header.fingerprint, store.header.dimension)

    def __len__(self) -> int:
        return len(self.keys)


def row_keys(ids: Iterable[str]) -> np.ndarray:
    """Keys (N,) of ids, positive int64: the first 63 bits of their BLAKE2b."""
    digests = b"".join(hashlib.blake2b(id.encode("utf-8", "surrogateescape"), digest_size=8).digest() for id in ids)
    return (np.frombuffer(digests, dtype=">u8") >> np.uint64(1)).astype(np.int64)


def matched(keys: np.ndarray, checksums: np.ndarray, identity: Identity) -> np.ndarray:
    """Which row of the store each of these (E,) entries is, (E,) int64; -1 where the row is gone or has changed."""
    if not len(identity):
        return np.full(len(keys), -1)
    order = np.argsort(identity.keys)
    place = np.minimum(np.searchsorted(identity.keys, keys, sorter=order), len(order) - 1)
    row = order[place]
    return np.where((identity.keys[row] == keys) & (identity.checksums[row] == checksums), row, -1)


def _pairs(found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each candidate of (Q, n) once a query: query numbers and rows, both ascending."""
    found = np.sort(found, axis=1)
    fresh = found >= 0
    fresh[:, 1:] &= found[:, 1:] != found[:, :-1]
    query, column = np.nonzero(fresh)
    return query, found[query, column]


def _best(query: np.ndarray, row: np.ndarray, scores: np.ndarray, count: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best rows of each of `count` queries, ties in row order; -1 where there are no more."""
    order = np.lexsort((row, -scores, query))
    query, row, scores = query[order], row[order], scores[order]
    rank = np.arange(len(query)) - np.searchsorted(query, np.arange(count))[query]
    rows, best = np.full((count, k), -1), np.full((count, k), -np.inf, np.float32)
    top = rank < k
    rows[query[top], rank[top]], best[query[top], rank[top]] = row[top], scores[top]
    return rows, best


def search(
    gallery: Gallery,
    index: Index,
    queries: np.ndarray | Scorer,
    k: int,
    allowed: Allowed | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best rows that an index finds for each query, with their exact scores.

    Args:
        gallery: the N rows that the index was made of.
        index: names candidates.
        queries: (Q, D) descriptors, or a `Scorer` over them.
        k: how many.
        allowed: the rows to keep to; None for all.

    Returns:
        rows (Q, min(k, n)) int64 and scores (Q, min(k, n)) float32 of the n rows allowed, best first, ties in row
        order. Few rows are searched exactly, and so is a query for which the index names fewer than k.
    """
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    rows = None if allowed is None else allowed.rows
    k = min(k, len(gallery) if rows is None else len(rows))
    found, scores = np.full((len(scorer), k), -1), np.full((len(scorer), k), -np.inf, np.float32)
    if k < 1:
        return found, scores
    if rows is not None and len(rows) <= FEW_ROWS:
        found, scores = exact.search(exact.ArrayGallery(gallery.fetch(rows)), scorer, k)
        return rows[found], scores
    probes = scorer.probes()
    together = max(1, PROBES_AT_ONCE // probes.shape[1])
    for start in range(0, len(scorer), together):
        some = slice(start, min(start + together, len(scorer)))
        flat = probes[some].reshape(-1, probes.shape[-1])
        named = index.candidates(flat, max(CANDIDATES, CANDIDATES_A_HIT * k), allowed)
        query, row = _pairs(named.reshape(some.stop - start, -1))
        exactly = scorer.pair_scores(query + start, gallery, row)
        found[some], scores[some] = _best(query, row, exactly, some.stop - start, k)
    short = np.flatnonzero(found[:, -1] < 0)
    if len(short):
        part = gallery if rows is None else exact.Part(gallery, rows)
        again, scores[short] = exact.search(part, scorer.take(short), k)
        found[short] = again if rows is None else rows[again]
    return found, scores
