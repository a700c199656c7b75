"""Exact search and the ranking of an evaluation against reading the file once and against the bare matrix products.

    python tests/benchmarks/search.py [--quick] [--rows N] [--queries N] [--tiles N] [--rounds N] [--cpu] [--folder DIR]

Prints one JSON line. All ways run in this process in turn, best of several rounds:

- one query against a store of N rows of 512 half-precision numbers, over reading the store's bytes once;
- 1,000 queries, as a share of the rate of the float32 matrix products alone over rows that are float32 in memory;
- the ranking of QUERIES among TILES (VIGOR's numbers unless told) likewise; and how many times faster it is than the
  way of VIGOR's released evaluation: the full matrix of distances in double precision, then a loop over the queries,
  on a slice of them, extrapolated. And than the same in single precision.

Peak memory is that of a fresh process each, above its imports.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from frame import clock_of, counted, parser_of, scratch, tell

from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows
from cvgeo.retrieval.exact import ArrayGallery, ranks, search
from cvgeo.retrieval.rows import write_rows

DIMENSION, MANY, HITS, SLICE = 512, 1000, 10, 500
BLOCK_ROWS = 2048  # of the bare products, and as many queries: larger ones are no faster


def unit(generator: np.random.Generator, count: int, dimension: int = DIMENSION) -> np.ndarray:
    """Random unit vectors (count, dimension) float32."""
    rows = generator.standard_normal((count, dimension), dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def write_store(path: Path, rows: int) -> Path:
    """A store of random rows, in blocks."""

    def blocks() -> Iterator[StoreRows]:
        generator = np.random.default_rng(0)
        for start in range(0, rows, 10_000):
            count = min(10_000, rows - start)
            ids = [f"tile_{number:09d}" for number in range(start, start + count)]
            lat, lon = generator.uniform(52, 53, count), generator.uniform(13, 14, count)
            paths = [f"tiles/{id}.jpg" for id in ids]
            yield StoreRows.of(ids, unit(generator, count).astype(np.float16), paths, lat=lat, lon=lon)

    write_rows(path, StoreHeader("f" * 64, DIMENSION, "aerial"), blocks(), rows)
    return path


def timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call."""
    started = clock()
    work()
    return clock() - started


def in_turn(ways: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Best seconds of each way, all of them in turn in each round."""
    seconds = [{name: timed(work, clock) for name, work in ways.items()} for _ in range(rounds)]
    return {name: min(one[name] for one in seconds) for name in ways}


def read_once(path: Path) -> None:
    """Read a file's bytes into one buffer."""
    buffer = bytearray(4 << 20)
    with open(path, "rb", buffering=0) as handle:
        while handle.readinto(buffer):
            pass


def products(rows: np.ndarray, queries: np.ndarray, total: int) -> None:
    """The products of queries with `total` rows, over and over the same block of float32 rows, nothing kept."""
    out = np.empty((min(BLOCK_ROWS, len(queries)), len(rows)), np.float32)
    for start in range(0, total, len(rows)):
        some = rows[: min(len(rows), total - start)]
        for first in range(0, len(queries), BLOCK_ROWS):
            part = queries[first : first + BLOCK_ROWS]
            np.matmul(part, some.T, out=out[: len(part), : len(some)])


def official(queries: np.ndarray, gallery: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """Hits of VIGOR's released evaluation: of the positive, and with others left out.

    queries, gallery: descriptors in the double precision of the buffers that it gathers them in. labels (Q, 4): the
    row of the positive and of the three semi-positives. The full matrix of distances, then one query at a time: the
    rows nearer than the positive, and those among them that a mask of ones and zeros leaves.
    """
    distances = 2 - 2 * np.matmul(queries, gallery.T)
    hits = masked_hits = 0
    for number, (positive, *semi_positives) in enumerate(labels):
        nearer = distances[number] < distances[number, positive]
        counted = np.ones(distances.shape[1])
        counted[semi_positives] = 0
        hits += int(np.sum(nearer) < 1)
        masked_hits += int(np.sum(nearer * counted) < 1)
    return hits, masked_hits


def peak_mib(call: str, *words: str) -> float:
    """Peak resident memory of a fresh process that runs a function of this module, above its imports, in MiB."""
    lines = "import sys; sys.path.insert(0, sys.argv[1]); import search as bench; "
    lines += "from machine import peak_mib as peak; before = peak(); "
    lines += f"bench.{call}(*sys.argv[2:]); print(peak() - before)"
    done = subprocess.run(
        [sys.executable, "-c", lines, str(Path(__file__).parent), *words], check=True, capture_output=True, text=True
    )
    return round(float(done.stdout), 1)


def search_alone(path: str, queries: str) -> None:
    """Open a store and search it."""
    with EmbeddingStore(path) as store:
        search(store, unit(np.random.default_rng(1), int(queries)), HITS)


def rank_alone(tiles: str, queries: str) -> None:
    """Rank queries among tiles held in half precision."""
    generator = np.random.default_rng(2)
    gallery = np.concatenate([unit(generator, 1000).astype(np.float16) for _ in range(-(-int(tiles) // 1000))])
    count = int(queries)
    positive = np.arange(count) % len(gallery)
    ranks(ArrayGallery(gallery), unit(generator, count), (np.arange(count), positive))


def measure_search(folder: Path, rows: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """The record of one query and of many against a store."""
    path = write_store(folder / "rows.h5", rows)
    generator = np.random.default_rng(1)
    one, many, block = unit(generator, 1), unit(generator, MANY), unit(generator, BLOCK_ROWS)
    with EmbeddingStore(path) as store:
        best = in_turn({"read": lambda: read_once(path), "one": lambda: search(store, one, HITS)}, 2 * rounds, clock)
        ways = {"products": lambda: products(block, many, rows), "many": lambda: search(store, many, HITS)}
        best |= in_turn(ways, rounds, clock)
    return {
        "rows": rows,
        "dimension": DIMENSION,
        "read_s": round(best["read"], 3),
        "one_query_s": round(best["one"], 3),
        "one_over_read": round(best["one"] / best["read"], 2),
        "products_s": round(best["products"], 2),
        "many_queries_s": round(best["many"], 2),
        "many_rate": round(best["products"] / best["many"], 3),
        "search_peak_mib": peak_mib("search_alone", str(path), str(MANY)),
    }


def measure_ranking(tiles: int, queries: int, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    """The record of an evaluation's ranking."""
    generator = np.random.default_rng(2)
    gallery, query = unit(generator, tiles).astype(np.float16), unit(generator, queries)
    labels = generator.integers(0, tiles, (queries, 4))
    number = np.arange(queries)
    positives, semi_positives = (number, labels[:, 0]), (np.repeat(number, 3), labels[:, 1:].ravel())
    block, few = unit(generator, BLOCK_ROWS), slice(0, min(SLICE, queries))
    slow = query[few].astype(np.float64), gallery.astype(np.float64), labels[few]
    single = query[few], gallery.astype(np.float32), labels[few]
    ways = {
        "products": lambda: products(block, query, tiles),
        "ranking": lambda: ranks(ArrayGallery(gallery), query, positives, semi_positives),
        "official": lambda: official(*slow),
        "official, single precision": lambda: official(*single),
    }
    best = in_turn(ways, rounds, clock)
    official_s, single_s = (best[n] * queries / few.stop for n in ("official", "official, single precision"))
    return {
        "tiles": tiles,
        "queries": queries,
        "ranking_products_s": round(best["products"], 2),
        "ranking_s": round(best["ranking"], 2),
        "ranking_rate": round(best["products"] / best["ranking"], 3),
        "official_s_extrapolated": round(official_s, 2),
        "ranking_times_faster": round(official_s / best["ranking"], 2),
        "official_in_single_precision_s_extrapolated": round(single_s, 2),
        "ranking_times_faster_than_in_single_precision": round(single_s / best["ranking"], 2),
        "ranking_peak_mib": peak_mib("rank_alone", str(tiles), str(queries)),
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(
        __doc__, "40,000 rows and 2,000 queries among 8,000 tiles", written="the store is written", cpu=True
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=52_000)
    parser.add_argument("--tiles", type=int, default=90_000)
    parser.add_argument("--rounds", type=int, default=3, help="of all ways in turn")
    words = parser.parse_args(arguments)
    if words.quick:
        words.rows, words.queries, words.tiles = 40_000, 2_000, 8_000
    clock = clock_of(words)
    with scratch(words) as folder:
        record = measure_search(folder, words.rows, words.rounds, clock)
    record |= measure_ranking(words.tiles, words.queries, words.rounds, clock)
    return tell(record | counted(words))


if __name__ == "__main__":
    main()
