"""How finding hard neighbours and packing them into batches grows with the number of pairs.

    python tests/benchmarks/sampling.py [--quick] [--pairs N ...] [--descriptor D]

Made-up pairs: panoramas along streets of a city that grows with them (as dense at every size), each with a positive and
up to three semi-positive tiles of an overlapping grid, as in VIGOR. One JSON line; for each size the seconds of the
processor for the neighbours by place, the neighbours by similarity (all to all: its work grows with the square, its
memory does not), the batches at random and the hard batches, the share of pairs that are in a batch, and the peak
memory of a fresh process above its imports; then by which power of the number each grew between the first and last.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from machine import peak_mib

from cvgeo.data.samplers import UniquePlaceBatches, geographic_neighbours
from cvgeo.data.schema import Pairs
from cvgeo.training.neighbours import similar_neighbours

TILE_M, BATCH, POOL, SELECT = 70.0, 64, 128, 64
METRES_A_DEGREE = 111_320.0


def make(pairs: int) -> tuple[np.ndarray, np.ndarray, Pairs, int]:
    """Latitudes, longitudes, pairs, and the number of tiles, which lie half a tile apart."""
    generator = np.random.default_rng(0)
    side = math.sqrt(pairs * 600.0)  # 600 square metres a panorama: VIGOR's density
    step = TILE_M / 2
    across = generator.random((pairs, 2)) * side
    # Streets every 100 metres, one way or the other.
    street = np.arange(pairs) % 2
    across[np.arange(pairs), street] = np.round(across[np.arange(pairs), street] / 100) * 100
    columns = math.ceil(side / step) + 2
    cell = np.floor(across / step).astype(np.int64)
    corners = np.stack([cell + offset for offset in ((0, 0), (0, 1), (1, 0), (1, 1))], axis=1)
    gaps = np.linalg.norm(corners * step - across[:, None], axis=2)
    order = np.argsort(gaps, axis=1)
    tiles = np.take_along_axis(corners[..., 0] * columns + corners[..., 1], order, axis=1)
    roles = np.tile([0, 1, 1, 1], pairs)
    lat, lon = across[:, 0] / METRES_A_DEGREE, across[:, 1] / METRES_A_DEGREE
    return lat, lon, Pairs(np.repeat(np.arange(pairs), 4), tiles.ravel(), roles), columns * columns


def measure_one(pairs: int, descriptor: int) -> dict[str, Any]:
    """The figures of one size, in this process."""
    before = peak_mib()
    lat, lon, table, tiles = make(pairs)
    batches = UniquePlaceBatches(table, pairs, BATCH, 0, SELECT, apart=True)
    record: dict[str, Any] = {"pairs": pairs}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        start = time.process_time()
        result = work()
        record[f"{name}_seconds"] = round(time.process_time() - start, 2)
        return result

    found = timed("random", lambda: batches.epoch(0))
    batches.neighbours = timed("geographic", lambda: geographic_neighbours(lat, lon, batches.panoramas, POOL))
    hard = timed("hard", lambda: batches.epoch(1))
    record |= {"random_share": round(len(found) * BATCH / pairs, 4), "hard_share": round(len(hard) * BATCH / pairs, 4)}
    if descriptor:
        generator = np.random.default_rng(1)
        ground, aerial = (generator.normal(size=(count, descriptor)).astype(np.float32) for count in (pairs, tiles))
        for one in (ground, aerial):
            one /= np.linalg.norm(one, axis=1, keepdims=True)
        batches.neighbours = None
        timed("similarity", lambda: similar_neighbours(ground, aerial, batches, POOL))
    return record | {"peak_mib": round(peak_mib() - before, 1)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4,000 and 16,000 pairs only")
    parser.add_argument("--pairs", type=int, nargs="+", default=[50_000, 200_000])
    parser.add_argument("--descriptor", type=int, default=64, help="numbers of a descriptor; 0: not by similarity")
    parser.add_argument("--only", action="store_true", help="one size, in this process")
    words = parser.parse_args(arguments)
    if words.only:
        record = measure_one(words.pairs[0], words.descriptor)
        print(json.dumps(record))
        return record
    sizes = []
    for pairs in [4_000, 16_000] if words.quick else words.pairs:
        call = [sys.executable, __file__, "--only", "--pairs", str(pairs), "--descriptor", str(words.descriptor)]
        sizes.append(json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout))
    first, last = sizes[0], sizes[-1]
    record = {"benchmark": "sampling", "descriptor": words.descriptor, "sizes": sizes}
    if last["pairs"] > first["pairs"]:
        ratio = math.log(last["pairs"] / first["pairs"])
        grown = {name: last[name] / max(first[name], 0.01) for name in first if name.endswith(("seconds", "mib"))}
        record["power"] = {name: round(math.log(max(one, 1e-9)) / ratio, 2) for name, one in grown.items()}
    print(json.dumps(record))
    return record


if __name__ == "__main__":
    main()
