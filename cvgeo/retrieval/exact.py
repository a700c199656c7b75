"""Exact search: every embedding is scored against every query, block by block, in memory that does not grow.

Scores are inner products in float32. Nothing of the size queries x gallery is ever held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol, Self

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from cvgeo.errors import InputError
from cvgeo.memory import at_most
from cvgeo.retrieval.heading import Scorer, single

BLOCK_ROWS = 4096  # that a thread multiplies at once
SCORES_AT_ONCE = 1 << 22  # of a thread
WAITING = 2  # blocks of a thread that are read and not yet done
NUMBER_BYTES = 16  # of a number of a block: as stored, as single precision, and as the spectra made of it
SCORE_BYTES = 24  # of a score, and of what comparing it makes
# Two equal embeddings may differ in the last bits of their float32 scores, depending on where in a block they stand.
TIE = 1e-6


class Watch(Protocol):
    """What is shown all scores of a search: a `LogSums`. Threads have one each, which are joined."""

    def fresh(self) -> Self:
        """Another one of its kind, to which nothing was shown yet."""
        ...

    def add(self, some: slice, scores: np.ndarray) -> None:
        """Take in the scores (q, n) of some queries and of a block of rows."""
        ...

    def join(self, other: Self) -> None:
        """Take in what another one was shown."""
        ...


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


class Tally(Protocol):
    """What becomes of the scores that it is shown, block by block in ascending order."""

    def fresh(self) -> Self:
        """Another one of its kind, to which nothing was shown yet."""
        ...

    def add(self, some: slice, start: int, scores: np.ndarray) -> None:
        """Take in the scores (q, n) of some queries and of the rows from `start` on, which it may change."""
        ...

    def join(self, other: Self) -> None:
        """Take in what another one was shown."""
        ...


def _scan(gallery: Gallery, scorer: Scorer, tally: Tally) -> None:
    """Show a tally the scores of all queries and all rows, a block of rows at a time.

    Blocks go round the threads, each with a tally of its own and with matrix products by itself, so that what follows
    a product is shared as well. Which thread sees which block is fixed, and so is the result.
    """
    rows_at_once = at_most(BLOCK_ROWS, NUMBER_BYTES * scorer.dimension, 0.25)
    threads = max(1, min(torch.get_num_threads(), len(gallery) // rows_at_once))
    scores_at_once = at_most(SCORES_AT_ONCE, SCORE_BYTES * threads, 0.5)
    queries_at_once = max(1, scores_at_once // (rows_at_once * scorer.scores_a_pair))
    path = getattr(gallery, "path", None)

    def take(own: Tally, start: int, block: np.ndarray) -> None:
        prepared = scorer.prepare(block)
        for first in range(0, len(scorer), queries_at_once):
            some = slice(first, min(first + queries_at_once, len(scorer)))
            scores = scorer.scores(some, prepared)
            _refuse_not_finite(scores, start, path)
            own.add(some, start, scores)

    if threads == 1:
        for start, block in gallery.blocks(rows_at_once):
            take(tally, start, block)
        return
    tallies = [tally, *(tally.fresh() for _ in range(threads - 1))]
    with threadpool_limits(1, user_api="blas"), ExitStack() as stack:
        # An executor each keeps a thread's blocks in order; a second one may wait there while the next are read.
        executors = [stack.enter_context(ThreadPoolExecutor(1)) for _ in tallies]
        waiting: list[deque[Future[None]]] = [deque() for _ in tallies]
        for number, (start, block) in enumerate(gallery.blocks(rows_at_once)):
            turn = number % threads
            if len(waiting[turn]) == WAITING:
                waiting[turn].popleft().result()
            waiting[turn].append(executors[turn].submit(take, tallies[turn], start, block))
        for one in chain(*waiting):
            one.result()
    for other in tallies[1:]:
        tally.join(other)


def _refuse_not_finite(scores: np.ndarray, start: int, path: Path | None) -> None:
    """Raise InputError where a score of (q, n), of rows from `start` on, is not finite."""
    # A sum is finite where all that it sums is, and one product finds it.
    if not np.isfinite(scores @ np.ones(scores.shape[1], np.float32)).all():
        raise InputError(
            f"embeddings that are not finite in rows {start} to {start + scores.shape[1]}",
            path=path,
            mend="look for damage with cvgeo info --verify",
        )


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


class _Best:
    """The k best rows of each query and their scores (Q, k): a tally."""

    def __init__(self, queries: int, k: int, hidden: _Marked, watch: Watch | None):
        # Places that are not filled yet sort behind all rows.
        self.rows = np.full((queries, k), np.iinfo(np.int64).max)
        self.scores = np.full((queries, k), -np.inf, np.float32)
        self.hidden, self.watch = hidden, watch

    def fresh(self) -> _Best:
        return _Best(*self.rows.shape, self.hidden, None if self.watch is None else self.watch.fresh())

    def add(self, some: slice, start: int, scores: np.ndarray) -> None:
        scores[self.hidden.within(some, start, scores.shape[1])] = -np.inf
        if self.watch is not None:
            self.watch.add(some, scores)
        self.rows[some], self.scores[some] = _merge(self.rows[some], self.scores[some], start, scores)

    def join(self, other: _Best) -> None:
        rows, scores = np.hstack([self.rows, other.rows]), np.hstack([self.scores, other.scores])
        order = np.lexsort((rows, -scores), axis=1)[:, : self.rows.shape[1]]
        self.rows, self.scores = (np.take_along_axis(one, order, axis=1) for one in (rows, scores))
        if self.watch is not None:
            self.watch.join(other.watch)


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
        watch: is shown all scores.
        hidden: query numbers (P,) and row numbers (P,) that belong together: rows that are as if they were not there;
            their scores are -inf, and places left empty for want of others hold the largest int64 and -inf.

    Returns:
        rows (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first; ties in row order.
    """
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    k = min(k, len(gallery))
    if k < 1:
        return np.zeros((len(scorer), 0), np.int64), np.zeros((len(scorer), 0), np.float32)
    best = _Best(len(scorer), k, _Marked(hidden), watch)
    _scan(gallery, scorer, best)
    return best.rows, best.scores


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


def _tops(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Column (q,) of the best of scores (q, n), and its score (q,)."""
    column = scores.argmax(axis=1)
    return column, scores[np.arange(len(scores)), column]


def _raise_top(top: np.ndarray, top_score: np.ndarray, number: np.ndarray, score: np.ndarray) -> None:
    """Put numbers (q,) where their scores (q,) are better than those before, in place; ties go to the lower number."""
    better = (score > top_score) | ((score == top_score) & (number < top))
    top[better], top_score[better] = number[better], score[better]


def _true(flags: np.ndarray) -> np.ndarray:
    """How many of flags (q, n) are true in each row, (q,): eight bytes at a time, several times as fast as counting."""
    count = flags.shape[1]
    words = np.zeros((len(flags), -(-count // 8)), np.uint64)
    words.view(np.bool_)[:, :count] = flags
    return np.bitwise_count(words).sum(axis=1, dtype=np.int64)


class _Higher:
    """How many scores of each query are as high as its best positive's, and its best row: a tally.

    `best` (Q,) are the scores of the best positives. `above` counts all that are no positives, `semi_above` the
    semi-positives among them. `by_row` counts for each row of the gallery instead of each query.
    """

    def __init__(self, best: np.ndarray, positive: _Marked, semi: _Marked, by_row: bool = False):
        self.best, self.positive, self.semi, self.by_row = best, positive, semi, by_row
        self.above, self.semi_above = np.zeros(len(best), np.int64), np.zeros(len(best), np.int64)
        self.top, self.top_score = np.full(len(best), -1), np.full(len(best), -np.inf, np.float32)

    def fresh(self) -> _Higher:
        return _Higher(self.best, self.positive, self.semi, self.by_row)

    def add(self, some: slice, start: int, scores: np.ndarray) -> None:
        rows = slice(start, start + scores.shape[1])
        whose, first = (rows, some.start) if self.by_row else (some, start)
        number, value = _tops(scores.T if self.by_row else scores)
        _raise_top(self.top[whose], self.top_score[whose], first + number, value)
        threshold = self.best[whose] - TIE
        scores[self.positive.within(some, start, scores.shape[1])] = -np.inf
        query, row = self.semi.within(some, start, scores.shape[1])
        mine = row if self.by_row else query
        np.add.at(self.semi_above[whose], mine, scores[query, row] >= threshold[mine])
        if self.by_row:
            self.above[whose] += np.count_nonzero(scores >= threshold, axis=0)
        else:
            self.above[whose] += _true(scores >= threshold[:, None])

    def join(self, other: _Higher) -> None:
        self.above += other.above
        self.semi_above += other.semi_above
        _raise_top(self.top, self.top_score, other.top, other.top_score)

    def ranks(self) -> Ranks:
        """The ranks that the counts amount to."""
        has_positive = np.isfinite(self.best)
        exact = np.where(has_positive, self.above + 1, 0)
        masked = np.where(has_positive, self.above - self.semi_above + 1, 0)
        return Ranks(exact, masked, self.best, self.top, self.top_score)


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
    return _ranks(gallery, queries, positives, semi_positives, by_row=False)


def reverse_ranks(
    gallery: Gallery,
    queries: np.ndarray | Scorer,
    positives: tuple[np.ndarray, np.ndarray],
    semi_positives: tuple[np.ndarray, np.ndarray] | None = None,
) -> Ranks:
    """The other direction: rank of each row's best positive query among all queries that are not its positives.

    Arguments, ties and what is masked are those of `ranks`; arrays are (N,), `top` is the number of a query.
    """
    return _ranks(gallery, queries, positives, semi_positives, by_row=True)


def _ranks(
    gallery: Gallery,
    queries: np.ndarray | Scorer,
    positives: tuple[np.ndarray, np.ndarray],
    semi_positives: tuple[np.ndarray, np.ndarray] | None,
    by_row: bool,
) -> Ranks:
    scorer = queries if isinstance(queries, Scorer) else Scorer(queries)
    best = np.full(len(gallery) if by_row else len(scorer), -np.inf, np.float32)
    query, row = (np.asarray(part, dtype=np.int64) for part in positives)
    np.maximum.at(best, row if by_row else query, scorer.pair_scores(query, gallery, row))
    higher = _Higher(best, _Marked((query, row)), _Marked(semi_positives), by_row)
    _scan(gallery, scorer, higher)
    return higher.ranks()
