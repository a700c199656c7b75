"""How a query and a tile are scored: as they stand, or at the best of several headings of the query.

A descriptor that is a row of azimuth columns is turned by rolling its columns; all rolls at once are a circular
correlation, done by FFT. Where a model says so (DSM), a row counts only in the columns that the query sees. For other
descriptors the picture was embedded at several headings, and the best counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cvgeo.memory import at_most

PAIRS_AT_ONCE = 2048
PAIR_BYTES = 24  # of a number of a pair: query and row in single precision, and the spectra made of them
SHARED_FROM = 30_000  # numbers; from 32,768 on torch shares such work among threads
CROP_FLOOR = 1e-6  # of the squared length of a crop of a unit vector


def single(rows: np.ndarray) -> np.ndarray:
    """Rows (n, D) as float32; half precision is widened by torch, which is ten times as fast as numpy at it.

    In pieces that torch does not share among threads: its threads and those of the products that follow would wait for
    each other, block by block, for ten times as long as all the rest takes.
    """
    if rows.dtype != np.float16:
        return rows.astype(np.float32, copy=False)
    wide = np.empty(rows.shape, np.float32)
    half = torch.from_numpy(np.ascontiguousarray(rows).reshape(-1))
    pieces = zip(torch.from_numpy(wide.reshape(-1)).split(SHARED_FROM), half.split(SHARED_FROM), strict=True)
    for piece, source in pieces:
        piece.copy_(source)
    return wide


class Scorer:
    """Inner products of queries (Q, D) with blocks of rows (n, D)."""

    scores_a_pair = 1

    def __init__(self, queries: np.ndarray):
        self.queries = np.ascontiguousarray(queries, dtype=np.float32)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def dimension(self) -> int:
        """D."""
        return self.queries.shape[-1]

    def take(self, some: np.ndarray) -> Scorer:
        """The scorer of some of the queries."""
        return type(self)(self.queries[some])

    def probes(self) -> np.ndarray:
        """Descriptors (Q, V, D) by whose inner products an index names candidates: the best of the V counts."""
        return self.queries[:, None]

    def prepare(self, block: np.ndarray) -> Any:
        """A block in the form that `scores` takes."""
        return single(block)

    def scores(self, some: slice, prepared: Any) -> np.ndarray:
        """Scores (q, n) of some queries."""
        return self.queries[some] @ prepared.T

    def turns(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P, T) of pairs (query number, row (P, D)) at each of T turns, equally spaced around the circle."""
        return np.einsum("pd,pd->p", self.queries[query], single(rows))[:, None]

    def curves(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `turns`, on the scale of `scores`: what a heading and its uncertainty are read from."""
        return self.turns(query, rows)

    def at_best_turn(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Descriptors (P, D) of the queries of pairs (query number, row (P, D)), turned to where they score best."""
        return self.queries[query]

    def pair_scores(self, query: np.ndarray, gallery: Any, row: np.ndarray) -> np.ndarray:
        """Scores (P,) of pairs of query and row numbers."""
        scores = np.empty(len(query), np.float32)
        at_once = at_most(PAIRS_AT_ONCE, PAIR_BYTES * self.queries[0].size, 0.25)
        for start in range(0, len(query), at_once):
            part = slice(start, start + at_once)
            scores[part] = self.scores_of_pairs(query[part], gallery.fetch(row[part]))
        return scores

    def scores_of_pairs(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P,) of pairs of query numbers and rows (P, D)."""
        return self.turns(query, rows).max(axis=1)


class VariantScorer(Scorer):
    """The best of V descriptors (Q, V, D) of each query, embedded at headings 360 v / V apart."""

    def __init__(self, queries: np.ndarray):
        super().__init__(queries)
        self.scores_a_pair = self.queries.shape[1]

    def probes(self) -> np.ndarray:
        """Descriptors (Q, V, D): the query at each heading."""
        return self.queries

    def scores(self, some: slice, prepared: np.ndarray) -> np.ndarray:
        """Scores (q, n) of some queries at their best headings."""
        queries = self.queries[some]
        scores = queries.reshape(-1, queries.shape[-1]) @ prepared.T
        return scores.reshape(*queries.shape[:2], -1).max(axis=1)

    def turns(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P, V) of pairs at each heading."""
        return np.einsum("pvd,pd->pv", self.queries[query], single(rows))

    def at_best_turn(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Descriptors (P, D) of the queries of pairs, at the heading that scores best."""
        return self.queries[query, self.turns(query, rows).argmax(axis=1)]


class RollingScorer(Scorer):
    """Queries (Q, D) whose descriptors are A azimuth columns of C channels: the best of the A rolls counts."""

    def __init__(self, queries: np.ndarray, azimuth_columns: int):
        super().__init__(queries)
        self.columns = azimuth_columns
        self.scores_a_pair = azimuth_columns
        self._spectra = np.conj(self._spectrum(self.queries))

    def take(self, some: np.ndarray) -> Scorer:
        """The scorer of some of the queries."""
        return type(self)(self.queries[some], self.columns)

    def probes(self) -> np.ndarray:
        """Descriptors (Q, A, D): the query rolled by 0, 1, ... columns."""
        columns = self.queries.reshape(len(self), self.columns, -1)
        rolled = [np.roll(columns, turn, axis=1) for turn in range(self.columns)]
        return np.stack(rolled, axis=1).reshape(len(self), self.columns, -1)

    def _spectrum(self, descriptors: np.ndarray) -> np.ndarray:
        """(n, D) as (F, n, C) complex64, frequencies first for the matrix products."""
        columns = descriptors.reshape(len(descriptors), self.columns, -1).astype(np.float32)
        return np.ascontiguousarray(np.fft.rfft(columns, axis=1).transpose(1, 0, 2).astype(np.complex64))

    def prepare(self, block: np.ndarray) -> Any:
        """A block's spectra."""
        return self._spectrum(block)

    def scores(self, some: slice, prepared: Any) -> np.ndarray:
        """Scores (q, n) of some queries at their best rolls."""
        product = self._spectra[:, some] @ prepared.transpose(0, 2, 1)
        return np.fft.irfft(product, n=self.columns, axis=0).max(axis=0).astype(np.float32)

    def turns(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P, A) of pairs with the query rolled by 0, 1, ... columns (clockwise)."""
        product = np.einsum("fpc,fpc->pf", self._spectra[:, query], self._spectrum(rows))
        return np.fft.irfft(product, n=self.columns, axis=1).astype(np.float32)

    def at_best_turn(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Descriptors (P, D) of the queries of pairs, their columns rolled to where they score best."""
        turn = self.turns(query, rows).argmax(axis=1)
        source = (np.arange(self.columns) - turn[:, None]) % self.columns
        columns = self.queries[query].reshape(len(query), self.columns, -1)
        return np.take_along_axis(columns, source[:, :, None], axis=1).reshape(len(query), -1)


def _seen(queries: np.ndarray, columns: int) -> np.ndarray:
    """Which azimuth columns of queries (Q, D) see anything, (Q, A) float32 of 0 and 1."""
    return queries.reshape(len(queries), columns, -1).any(axis=2).astype(np.float32)


def _energy(rows: np.ndarray, columns: int) -> np.ndarray:
    """Squared lengths (n, A) of the azimuth columns of rows (n, D)."""
    return np.square(rows.astype(np.float32).reshape(len(rows), columns, -1)).sum(axis=2)


def _length(squared: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(squared, CROP_FLOOR))


class CroppingScorer(Scorer):
    """Queries (Q, D) of A azimuth columns as they stand: rows are cropped to the columns that a query sees, and the
    crops L2-normalised (DSM).
    """

    def __init__(self, queries: np.ndarray, azimuth_columns: int):
        super().__init__(queries)
        self.columns = azimuth_columns
        self._seen = _seen(self.queries, azimuth_columns)

    def take(self, some: np.ndarray) -> Scorer:
        """The scorer of some of the queries."""
        return type(self)(self.queries[some], self.columns)

    def prepare(self, block: np.ndarray) -> Any:
        """A block, and the squared lengths of its columns."""
        return single(block), _energy(block, self.columns)

    def scores(self, some: slice, prepared: Any) -> np.ndarray:
        """Scores (q, n) of some queries."""
        rows, energy = prepared
        return self.queries[some] @ rows.T / _length(self._seen[some] @ energy.T)

    def turns(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P, 1) of pairs (query number, row (P, D))."""
        squared = np.einsum("pa,pa->p", self._seen[query], _energy(rows, self.columns))
        return super().turns(query, rows) / _length(squared)[:, None]


class CroppingRollingScorer(RollingScorer):
    """As `CroppingScorer` at the roll with the largest inner product, as `cvgeo.losses.pairs.rolled_similarities`.

    `turns` are the inner products, whose peak is the heading.
    """

    def __init__(self, queries: np.ndarray, azimuth_columns: int):
        super().__init__(queries, azimuth_columns)
        self.scores_a_pair = 2 * azimuth_columns
        seen = np.fft.rfft(_seen(self.queries, azimuth_columns), axis=1)
        self._window = np.conj(seen.T).astype(np.complex64)

    def _energy_spectrum(self, rows: np.ndarray) -> np.ndarray:
        return np.fft.rfft(_energy(rows, self.columns), axis=1).T.astype(np.complex64)

    def prepare(self, block: np.ndarray) -> Any:
        """A block's spectra, and (F, n) those of its columns' squared lengths."""
        return self._spectrum(block), self._energy_spectrum(block)

    def scores(self, some: slice, prepared: Any) -> np.ndarray:
        """Scores (q, n) of some queries at their best rolls."""
        spectra, energies = prepared
        products = np.fft.irfft(self._spectra[:, some] @ spectra.transpose(0, 2, 1), n=self.columns, axis=0)
        squared = np.fft.irfft(self._window[:, some, None] * energies[:, None], n=self.columns, axis=0)
        return self._at_best(products, squared)

    def scores_of_pairs(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P,) of pairs of query numbers and rows (P, D)."""
        return self._at_best(self.turns(query, rows).T, self._squared(query, rows))

    def _squared(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Squared lengths (A, P) of the crops of rows (P, D) at each roll."""
        return np.fft.irfft(self._window[:, query] * self._energy_spectrum(rows), n=self.columns, axis=0)

    def curves(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """As `turns`, each over the length of its crop at the best turn: the peak stays, and is the score."""
        turns, squared = self.turns(query, rows), self._squared(query, rows)
        best = np.take_along_axis(squared, turns.argmax(axis=1)[None], axis=0)[0]
        return turns / _length(best)[:, None]

    @staticmethod
    def _at_best(products: np.ndarray, squared: np.ndarray) -> np.ndarray:
        best = products.argmax(axis=0)[None]
        product, square = (np.take_along_axis(one, best, axis=0)[0] for one in (products, squared))
        return (product / _length(square)).astype(np.float32)


def choose_scorer(descriptors: np.ndarray, columns: int, rolls: bool, crops: bool) -> Scorer:
    """The scorer of queries (Q, V, D), embedded at V headings.

    Args:
        descriptors: of unknown heading where V > 1, or `rolls`.
        columns: azimuth columns of a descriptor, 0 for none.
        rolls: the best roll of the columns counts.
        crops: rows are cropped to what a query sees (`CroppingScorer`).
    """
    if descriptors.shape[1] > 1:
        return VariantScorer(descriptors)
    queries = descriptors[:, 0]
    if crops and not _seen(queries, columns).all():
        return CroppingRollingScorer(queries, columns) if rolls else CroppingScorer(queries, columns)
    return RollingScorer(queries, columns) if rolls else Scorer(queries)
