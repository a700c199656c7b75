"""What shorter and coarser descriptors lose: principal axes, half precision and 8 bits a number.

    python tests/benchmarks/sizes.py TILES.h5 QUERIES.h5 [--within METRES]

TILES and QUERIES are stores of the aerial and the ground view, by one model, both with positions. Prints a table:
bytes a row, the share of queries whose best tile lies within METRES of them (with the 95 % interval of that share), and
how much of exact search's first ten stays. One JSON line follows on stdout.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.evaluation.intervals import wilson
from cvgeo.geometry.geodesy import distance_m
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.exact import ArrayGallery, search
from cvgeo.retrieval.reduction import learn_reduction
from cvgeo.retrieval.rows import in_eight_bits

HITS = 10
SHARES = (1, 4, 8, 16, 32)  # of the whole length
STORAGES = ("half", "int8")


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def eight_bits(rows: np.ndarray) -> np.ndarray:
    """Rows as a store of int8 gives them back, as float32."""
    numbers, scale = in_eight_bits(rows)
    return numbers.astype(np.float32) * scale.astype(np.float32)


def measure(tiles: EmbeddingStore, queries: EmbeddingStore, within: float) -> list[dict[str, Any]]:
    """The records of all sizes."""
    gallery, asked = tiles.fetch(np.arange(len(tiles))), queries.fetch(np.arange(len(queries)))
    true, _ = search(ArrayGallery(gallery), asked, HITS)
    records = [_record(tiles, queries, true, ("all", gallery, asked), storage, within) for storage in STORAGES]
    for name, whiten in (("pca", False), ("whitened", True)):
        # The axes of fewer numbers are the first ones of more.
        widest = learn_reduction(ArrayGallery(gallery), gallery.shape[1] // SHARES[1], whiten=whiten)
        rows, probes = widest(gallery), widest(asked)
        for share in SHARES[1:]:
            size = gallery.shape[1] // share
            short = name, unit(rows[:, :size]), unit(probes[:, :size])
            records += [_record(tiles, queries, true, short, storage, within) for storage in STORAGES]
    return records


def _record(
    tiles: EmbeddingStore,
    queries: EmbeddingStore,
    true: np.ndarray,
    short: tuple[str, np.ndarray, np.ndarray],
    storage: str,
    within: float,
) -> dict[str, Any]:
    name, rows, probes = short
    stored = eight_bits(rows) if storage == "int8" else rows.astype(np.float16)
    found, _ = search(ArrayGallery(stored), probes, HITS)
    columns, places, best = tiles.columns, queries.columns, found[:, 0]
    near = distance_m(places.lat, places.lon, columns.lat[best], columns.lon[best]) <= within
    low, high = wilson(int(near.sum()), len(near))
    kept = np.mean([np.isin(one, other).mean() for one, other in zip(true, found, strict=True)])
    size = rows.shape[1]
    return {
        "axes": name,
        "numbers": size,
        "storage": storage,
        "bytes": size + 2 if storage == "int8" else 2 * size,  # int8: and the row's scale
        "within": round(100 * float(near.mean()), 2),
        "interval": [round(100 * low, 2), round(100 * high, 2)],
        "first_ten_kept": round(100 * float(kept), 2),
    }


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Measure, print the table and one JSON line, and return the records."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tiles", type=Path)
    parser.add_argument("queries", type=Path)
    parser.add_argument("--within", type=float, default=30.0, help="metres between a query and its best tile's centre")
    words = parser.parse_args(arguments)
    with EmbeddingStore(words.tiles) as tiles, EmbeddingStore(words.queries) as queries:
        records = measure(tiles, queries, words.within)
    for one in records:
        low, high = one["interval"]
        place = f"{one['axes']:9} {one['numbers']:5} {one['storage']:5} {one['bytes']:6}"
        print(f"{place} {one['within']:7.2f} ({low} to {high}) {one['first_ten_kept']:7.2f}", file=sys.stderr)
    print(json.dumps(records))
    return records


if __name__ == "__main__":
    main()
