"""Exact search: every embedding is scored against every query, block by block, in memory that does not grow.

Scores are inner products in float32. Nothing of the size queries x gallery is ever held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cvgeo.errors import InputError
from cvgeo.memory import at_most
from cvgeo.retrieval.heading import Scorer, single

BLOCK_ROWS = 2048  # of 512 numbers: a block and its float32 stay in a core's cache
SCORES_AT_ONCE = 1 << 22
NUMBER_BYTES = 16  # of a number of a block: as stored, as single precision, and as the spectra made of it
SCORE_BYTES = 24  # of a score, and of what comparing it makes
# Two equal embeddings may differ in the last bits of their float32 scores, depending on where in a block they stand.
TIE = 1e-6

Watch = Callable[[slice, np.ndarray], None]


class Gallery(Protocol):
    """What can be searched: an `EmbeddingStore`, an `ArrayGallery`."""

    def __len__(self) -> int: ...

    def blocks(self, at_once: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks (first row, (n, D)) in order."""
        ...

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) float32."""
        ...


class ArrayGallery:
    """A gallery that is an array (N, D)."""

    def __init__(self, embeddings: np.ndarray):
        self.embeddings = embeddings

    def __len__(self) -> int:
        return len(self.embeddings)

    def blocks(self, at_once: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks (first row, (n, D)) in order."""
        for start in range(0, len(self), at_once):
            yield start, self.embeddings[start : start + at_once]

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) float32."""
        return single(self.embeddings[rows])


class Part:
    """Some rows of a gallery, in their order, as a gallery of their own."""

    def __init__(self, gallery: Gallery, rows: np.ndarray):
        self.gallery = gallery
        self.rows = np.asarray(rows, dtype=np.int64)
        if np.any(np.diff(self.rows) <= 0):
            raise ValueError("rows must ascend")

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, at_once: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks (first row, (n, D)) in order."""
        for start, block in self.gallery.blocks(at_once):
            first, last = np.searchsorted(self.rows, [start, start + len(block)])
            if last > first:
                yield int(first), block[self.rows[first:last] - start]

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) float32."""
        return self.gallery.fetch(self.rows[rows])


def _scored_blocks(gallery: Gallery, scorer: Scorer) -> Iterator[tuple[slice, int, np.ndarray]]:
    """Scores (q, n) of some queries and a block of rows at a time, all rows for all queries."""
    rows_at_once = at_most(BLOCK_ROWS, NUMBER_BYTES * scorer.dimension, 0.25)
    scores_at_once = at_most(SCORES_AT_ONCE, SCORE_BYTES, 0.5)
    queries_at_once = max(1, scores_at_once // (rows_at_once * scorer.scores_a_pair))
    for start, block in gallery.blocks(rows_at_once):
        prepared = scorer.prepare(block)
        for first in range(0, len(scorer), queries_at_once):
            some = slice(first, min(first + queries_at_once, len(scorer)))
            scores = scorer.scores(some, prepared)
            if not np.isfinite(scores).all():
                raise InputError(
                    f"embeddings that are not finite in rows {start} to {start + len(block)}",
                    path=getattr(gallery, "path", None),
                    mend="look for damage with cvgeo info --verify",
                )
            yield some, start, scores


def _kth_best(scores: np.ndarray, k: int) -> np.ndarray:
    return -np.partition(-scores, k - 1, axis=1)[:, k - 1]


def _merge(rows: np.ndarray, scores: np.ndarray, start: int, block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best k of what was kept (q, k) and a block's scores (q, n); ties go to the lower row."""
    k = rows.shape[1]
    better = block > scores[:, -1:]
    if np.count_nonzero(better) > 4 * block.shape[0] * k and block.shape[1] > k:
        better &= block >= _kth_best(block, k)[:, None]
    # Of a flat view: finding the few in two dimensions takes as long as a tenth of the products.
    query, column = np.divmod(np.flatnonzero(better), better.shape[1])
    if len(query) == 0:
        return rows, scores
    kept = np.repeat(np.arange(len(rows)), k)
    all_query = np.concatenate([kept, query])
    all_rows = np.concatenate([rows.ravel(), start + column])
    all_scores = np.concatenate([scores.ravel(), block[query, column]])
    order = np.lexsort((all_rows, -all_scores, all_query))
    firsts = np.searchsorted(all_query[order], np.arange(len(rows)))
    best = order[firsts[:, None] + np.arange(k)]
    return all_rows[best], all_scores[best]


def search(
    gallery: Gallery,
    queries: np.ndarray | Scorer,
    k: int,
    watch: Watch | None = None,
    hidden: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best rows of a gallery for each query.

    Args:
        gallery: an `EmbeddingStore` or anything with its `blocks`, N rows.
        queries: (Q, D) descriptors, or a `Scorer` over them.
        k: how many; at most N are given.
        watch: is shown the scores (q, n) of some queries (a slice) and of each block of rows in turn.
        hidden: query numbers (P,) and row numbers (P,) that belong together: rows that are as if they were not there;
            their scores are -inf, and places left empty for want of others hold the largest int64 and -inf.

    Returns:
        rows (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first; ties in row order.
    """
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    k = min(k, len(gallery))
    if k < 1:
        return np.zeros((len(scorer), 0), np.int64), np.zeros((len(scorer), 0), np.float32)
    marked = _Marked(hidden)
    # Places that are not filled yet sort behind all rows.
    rows = np.full((len(scorer), k), np.iinfo(np.int64).max)
    scores = np.full((len(scorer), k), -np.inf, np.float32)
    for some, start, block in _scored_blocks(gallery, scorer):
        block[marked.within(some, start, block.shape[1])] = -np.inf
        if watch is not None:
            watch(some, block)
        rows[some], scores[some] = _merge(rows[some], scores[some], start, block)
    return rows, scores


@dataclass
class Ranks:
    """Ranks of the best positive (Q,) int64, 1 is best; ties count against it.

    `masked` leaves the semi-positives out as well (VIGOR's hit: masked == 1). Queries without a positive have rank 0.
    `top` and `top_score` (Q,) are the row that `search` finds first, and its score.
    """

    exact: np.ndarray
    masked: np.ndarray
    best_score: np.ndarray
    top: np.ndarray
    top_score: np.ndarray


class _Marked:
    """(query, row) pairs, found by block and slice of queries."""

    def __init__(self, pairs: tuple[np.ndarray, np.ndarray] | None):
        query, row = pairs if pairs is not None else (np.zeros(0, np.int64), np.zeros(0, np.int64))
        order = np.argsort(row, kind="stable")
        self.query, self.row = np.asarray(query)[order], np.asarray(row)[order]

    def within(self, some: slice, start: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        first, last = np.searchsorted(self.row, [start, start + count])
        query, row = self.query[first:last], self.row[first:last]
        here = (query >= some.start) & (query < some.stop)
        return query[here] - some.start, row[here] - start


def _raise_top(top: np.ndarray, top_score: np.ndarray, start: int, scores: np.ndarray) -> None:
    """Put a block's best rows (scores (q, n)) where they are better than those of the blocks before, in place."""
    column = scores.argmax(axis=1)
    best = scores[np.arange(len(scores)), column]
    better = best > top_score
    top[better], top_score[better] = start + column[better], best[better]


def ranks(
    gallery: Gallery,
    queries: np.ndarray | Scorer,
    positives: tuple[np.ndarray, np.ndarray],
    semi_positives: tuple[np.ndarray, np.ndarray] | None = None,
) -> Ranks:
    """Rank of each query's best positive among all rows that are not its positives.

    Args:
        gallery: N rows.
        queries: (Q, D) descriptors, or a `Scorer` over them.
        positives: query numbers (P,) and row numbers (P,) that belong together.
        semi_positives: likewise; they outrank a positive in `exact` and are passed over in `masked`.

    Scores within 1e-6 of each other are ties, and ties count against the positive: a model whose embeddings are all
    equal has rank N for every query.
    """
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    best = np.full(len(scorer), -np.inf, np.float32)
    query, row = (np.asarray(part, dtype=np.int64) for part in positives)
    np.maximum.at(best, query, scorer.pair_scores(query, gallery, row))
    above = np.zeros(len(scorer), np.int64)
    semi_above = np.zeros(len(scorer), np.int64)
    top, top_score = np.full(len(scorer), -1), np.full(len(scorer), -np.inf, np.float32)
    marked, semi = _Marked((query, row)), _Marked(semi_positives)
    for some, start, scores in _scored_blocks(gallery, scorer):
        _raise_top(top[some], top_score[some], start, scores)
        threshold = best[some, None] - TIE
        scores[marked.within(some, start, scores.shape[1])] = -np.inf
        semi_query, semi_row = semi.within(some, start, scores.shape[1])
        np.add.at(semi_above[some], semi_query, scores[semi_query, semi_row] >= threshold[semi_query, 0])
        above[some] += np.count_nonzero(scores >= threshold, axis=1)
    has_positive = np.isfinite(best)
    exact = np.where(has_positive, above + 1, 0)
    masked = np.where(has_positive, above - semi_above + 1, 0)
    return Ranks(exact, masked, best, top, top_score)


def reverse_ranks(
    gallery: Gallery,
    queries: np.ndarray | Scorer,
    positives: tuple[np.ndarray, np.ndarray],
    semi_positives: tuple[np.ndarray, np.ndarray] | None = None,
) -> Ranks:
    """The other direction: rank of each row's best positive query among all queries that are not its positives.

    Arguments, ties and what is masked are those of `ranks`; arrays are (N,), `top` is the number of a query.
    """
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    best = np.full(len(gallery), -np.inf, np.float32)
    query, row = (np.asarray(part, dtype=np.int64) for part in positives)
    np.maximum.at(best, row, scorer.pair_scores(query, gallery, row))
    above, semi_above = np.zeros(len(gallery), np.int64), np.zeros(len(gallery), np.int64)
    top, top_score = np.full(len(gallery), -1), np.full(len(gallery), -np.inf, np.float32)
    marked, semi = _Marked((query, row)), _Marked(semi_positives)
    for some, start, scores in _scored_blocks(gallery, scorer):
        rows = slice(start, start + scores.shape[1])
        _raise_top(top[rows], top_score[rows], some.start, scores.T)
        threshold = best[rows] - TIE
        scores[marked.within(some, start, scores.shape[1])] = -np.inf
        semi_query, semi_row = semi.within(some, start, scores.shape[1])
        np.add.at(semi_above[rows], semi_row, scores[semi_query, semi_row] >= threshold[semi_row])
        above[rows] += np.count_nonzero(scores >= threshold, axis=0)
    has_positive = np.isfinite(best)
    exact = np.where(has_positive, above + 1, 0)
    masked = np.where(has_positive, above - semi_above + 1, 0)
    return Ranks(exact, masked, best, top, top_score)
