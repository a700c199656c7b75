"""Approximate search against batched exact search: recall, speed, and the size of the index.

    python tests/benchmarks/approximate.py [--quick] [--rows N] [--file ROWS.f16] [--store STORE --queries STORE] ...

Prints one JSON line: recall@10 of an index of faiss against exact search, milliseconds a query of both (the index with
its re-ranking, exact search with all queries in one pass), their ratio, bytes of the index, seconds of building it.

The rows are made: unit vectors of --dimension numbers, 25 a cluster, each its cluster's centre with noise of norm 0.5;
queries are further vectors of the same clusters. With --store and --queries they are those of two stores. Made rows are
kept in --file, where it is given and not there yet, and read from it otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from frame import clock_of, counted, parser_of, scratch, tell

from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.approximate import Identity
from cvgeo.retrieval.approximate import search as search_index
from cvgeo.retrieval.exact import BLOCK_ROWS, Gallery, search
from cvgeo.retrieval.faiss_index import FaissIndex, Plan
from cvgeo.retrieval.heading import single

A_CLUSTER, NOISE, HITS, MADE_AT_ONCE = 25, 0.5, 10, 4000


class FileGallery:
    """Rows (N, D) of half precision in a plain file, read as a store reads its own."""

    def __init__(self, path: Path, dimension: int):
        self.path, self.dimension = path, dimension
        self._handle = os.open(path, os.O_RDONLY)
        self._count = path.stat().st_size // (2 * dimension)

    def __len__(self) -> int:
        return self._count

    def blocks(self, at_once: int = BLOCK_ROWS) -> Iterator[tuple[int, np.ndarray]]:
        """Blocks (first row, (n, D)) in order."""
        for start in range(0, len(self), at_once):
            yield start, self._read(start, min(at_once, len(self) - start))

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Rows (n, D) float32."""
        found = np.empty((len(rows), self.dimension), np.float16)
        buffer, length = memoryview(found).cast("B"), 2 * self.dimension
        for place, row in enumerate(rows.tolist()):
            os.preadv(self._handle, [buffer[place * length : (place + 1) * length]], row * length)
        return single(found)

    def _read(self, start: int, count: int) -> np.ndarray:
        rows = np.empty((count, self.dimension), np.float16)
        os.preadv(self._handle, [memoryview(rows).cast("B")], start * self.dimension * 2)
        return rows


def _noisy(generator: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    noise = generator.standard_normal(centres.shape, dtype=np.float32)
    rows = centres + noise * np.float32(NOISE / centres.shape[-1] ** 0.5)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _clusters(dimension: int, rows: int) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
    """Centres (c, 1, D) of clusters, some at a time, and the generator that goes on with their rows."""
    generator = np.random.default_rng(0)
    for start in range(0, rows // A_CLUSTER, MADE_AT_ONCE):
        count = min(MADE_AT_ONCE, rows // A_CLUSTER - start)
        centres = generator.standard_normal((count, 1, dimension), dtype=np.float32)
        yield centres / np.linalg.norm(centres, axis=2, keepdims=True), generator


def write_rows(path: Path, rows: int, dimension: int) -> None:
    """Make the rows, in blocks."""
    with open(path, "wb") as handle:
        for centres, generator in _clusters(dimension, rows):
            block = _noisy(generator, np.repeat(centres, A_CLUSTER, axis=1))
            handle.write(block.astype(np.float16).tobytes())


def make_queries(count: int, rows: int, dimension: int) -> np.ndarray:
    """Queries (Q, D) of the first clusters."""
    centres, _ = next(_clusters(dimension, rows))
    return _noisy(np.random.default_rng(1), centres[np.arange(count) % len(centres), 0])


def measure(
    gallery: Gallery,
    queries: np.ndarray,
    identity: Identity,
    folder: Path,
    plan: Plan,
    rounds: int,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """The record of one gallery."""
    started = clock()
    index = FaissIndex.build(gallery, identity, plan, Reporter().track)
    built = clock() - started
    index.save(folder / "index")
    index = FaissIndex.open(folder / "index")
    seconds: dict[str, list[float]] = {"exact": [], "index": []}
    found = true = np.zeros((0, 0), np.int64)
    for _ in range(rounds):
        started = clock()
        true, _ = search(gallery, queries, HITS)
        seconds["exact"].append(clock() - started)
        # The index is fast: a mean of several calls.
        started = clock()
        for _ in range(5):
            found, _ = search_index(gallery, index, queries, HITS)
        seconds["index"].append((clock() - started) / 5)
    recall = np.mean([np.isin(one, other).mean() for one, other in zip(true, found, strict=True)])
    first = (true[:, 0] == found[:, 0]).mean()
    each = {name: 1000 * min(some) / len(queries) for name, some in seconds.items()}
    return {
        "rows": len(gallery),
        "dimension": queries.shape[1],
        "queries": len(queries),
        "structure": plan.structure,
        "lists": plan.lists,
        "lists_probed": plan.probes,
        "pca": plan.pca,
        "build_s": round(built, 1),
        "index_mib": round((folder / "index").stat().st_size / 2**20, 1),
        "recall_at_10": round(float(recall), 4),
        "recall_at_1": round(float(first), 4),
        "exact_ms_a_query": round(each["exact"], 3),
        "index_ms_a_query": round(each["index"], 3),
        "times_faster": round(each["exact"] / each["index"], 1),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(__doc__, "50,000 rows of 64 numbers", written="the index is written", cpu=True)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--count", type=int, default=1000, help="queries")
    parser.add_argument("--structure", choices=["auto", "hnsw", "ivfpq"], default="auto")
    parser.add_argument("--pca", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--file", type=Path, help="where made rows are kept")
    parser.add_argument("--store", type=Path, help="search this store in place of made rows")
    parser.add_argument("--queries", type=Path, help="for the rows of this store")
    words = parser.parse_args(arguments)
    if words.quick:
        words.rows, words.dimension, words.count, words.structure = 50_000, 64, 200, "ivfpq"
    clock = clock_of(words)
    with scratch(words) as folder:
        if words.store is not None:
            with EmbeddingStore(words.store) as store, EmbeddingStore(words.queries) as asked:
                plan = Plan.choose(len(store), store.header.dimension, words.structure, words.pca)
                queries = asked.fetch(np.arange(min(words.count, len(asked))))
                record = measure(store, queries, Identity.of(store), folder, plan, words.rounds, clock)
        else:
            path = words.file or folder / "rows.f16"
            if not path.exists():
                write_rows(path, words.rows, words.dimension)
            gallery = FileGallery(path, words.dimension)
            keys = np.arange(len(gallery))
            identity = Identity(keys, np.zeros(len(keys), np.uint32), "", "", words.dimension)
            plan = Plan.choose(len(gallery), words.dimension, words.structure, words.pca)
            queries = make_queries(words.count, len(gallery), words.dimension)
            record = measure(gallery, queries, identity, folder, plan, words.rounds, clock)
    return tell(record | counted(words))


if __name__ == "__main__":
    main()
