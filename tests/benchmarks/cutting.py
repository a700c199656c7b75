"""Cutting tiles from a raster against reading the same pixels and encoding them as JPEG, on the same cores.

    python tests/benchmarks/cutting.py [--quick] [--tiles N] [--rounds N] [--folder DIR]

Prints one JSON line: tiles a second of `build-dataset tiles` (geometry, resampling, encoding, files and tables written
and synced) and of the plain loop (a window read by rasterio and encoded by OpenCV, nothing written), and their ratio.
Both run in this process on all cores in turn, best of several rounds; peak memory is that of a fresh process each.
What a file system takes to make a file differs by more than ten times between a memory file system (`--folder
/dev/shm`) and an aged disk. Therefore the plain loop also runs with a file for each tile (not synced), and the ratio to
that is told as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

sys.path.insert(0, str(Path(__file__).parent))

from frame import parser_of, scratch, tell

from cvgeo.memory import keep_freed_memory
from cvgeo.pipelines import tile_cutting
from cvgeo.pipelines.build_tiles import TilesSettings, build_tiles
from cvgeo.report import Reporter

SIZE, STEP, GSD = 256, 128, 0.25
JOBS = os.cpu_count() or 1


def write_raster(path: Path, tiles: int) -> Path:
    """A JPEG-compressed GeoTIFF in a UTM zone that `tiles` half-overlapping tiles cover, textured like imagery."""
    side = STEP * (round(tiles**0.5) + 1)
    generator = np.random.default_rng(0)
    texture = np.zeros((1024, 1024, 3), np.float32)
    for octave in range(7):
        noise = generator.normal(size=(8 << octave, 8 << octave, 3)).astype(np.float32)
        texture += cv2.resize(noise, (1024, 1024), interpolation=cv2.INTER_CUBIC) * 0.7**octave
    picture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8).transpose(2, 0, 1)
    options = {"driver": "GTiff", "dtype": "uint8", "count": 3, "height": side, "width": side, "crs": "EPSG:32631"}
    options |= {"tiled": True, "blockxsize": 256, "blockysize": 256, "compress": "jpeg", "photometric": "ycbcr"}
    with rasterio.open(path, "w", transform=from_origin(450_000, 5_300_000, GSD, GSD), **options) as raster:
        for top in range(0, side, 1024):
            for left in range(0, side, 1024):
                height, width = min(1024, side - top), min(1024, side - left)
                part = np.roll(picture, (top // 7, left // 5), (1, 2))[:, :height, :width]
                raster.write(part, window=Window(left, top, width, height))
    return path


def plain(path: Path, output: Path | None = None) -> tuple[int, float]:
    """Tiles and seconds of reading every tile's window and encoding it, in as many threads as the program has.

    With an `output` folder each is also written to a file.
    """
    with rasterio.open(path) as raster:
        corners = range(0, raster.width - SIZE + 1, STEP)
    if output is not None:
        output.mkdir()

    def row(top: int) -> int:
        with rasterio.open(path) as raster:
            for left in corners:
                bands = raster.read([3, 2, 1], window=Window(left, top, SIZE, SIZE))
                quality = [cv2.IMWRITE_JPEG_QUALITY, tile_cutting.TILE_QUALITY]
                _, data = cv2.imencode(".jpg", cv2.merge(list(bands)), quality)
                if output is not None:
                    (output / f"{top}_{left}.jpg").write_bytes(data)
        return len(corners)

    started = time.perf_counter()
    count = sum(tile_cutting.in_threads(row, list(corners), JOBS))
    return count, time.perf_counter() - started


def cut(path: Path, output: Path) -> tuple[int, float]:
    """Tiles and seconds of the real pipeline."""
    settings = TilesSettings([str(path)], output, tile_cutting.TileSize(SIZE, GSD), jobs=JOBS)
    started = time.perf_counter()
    made = build_tiles(settings, Reporter())
    return made["tiles"] + sum(made["dropped"].values()), time.perf_counter() - started


def peak_mib(path: Path, output: Path) -> float:
    """Peak resident memory of a fresh process that cuts all tiles, in MiB."""
    lines = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import cutting, machine; "
    lines += "cutting.cut(Path(sys.argv[2]), Path(sys.argv[3])); print(machine.peak_mib())"
    words = [sys.executable, "-c", lines, str(Path(__file__).parent), str(path), str(output)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def measure(folder: Path, tiles: int, rounds: int) -> dict[str, Any]:
    """The record of one size."""
    os.environ.setdefault("GDAL_CACHEMAX", "128")
    cv2.setNumThreads(1)
    keep_freed_memory()  # as the program does
    path = write_raster(folder / f"raster{tiles}.tif", tiles)
    rates: dict[str, list[float]] = {"plain": [], "plain_with_files": [], "cut": []}
    for number in range(rounds):
        found = (plain(path), plain(path, folder / f"plain{number}"), cut(path, folder / f"out{number}"))
        for name, (count, seconds) in zip(rates, found, strict=True):
            rates[name].append(count / seconds)
    best = {name: max(found) for name, found in rates.items()}
    record: dict[str, Any] = {"tiles": tiles, "jobs": JOBS}
    record |= {f"{name}_tiles_a_second": round(rate, 1) for name, rate in best.items()}
    for name in ("plain", "plain_with_files"):
        pairs = zip(rates[name], rates["cut"], strict=True)
        suffix = name.removeprefix("plain")
        record[f"ratio{suffix}"] = round(best["cut"] / best[name], 3)
        record[f"ratio{suffix}_of_each_round"] = [round(cut / plain, 3) for plain, cut in pairs]
    return record | {"peak_mib": round(peak_mib(path, folder / "out"), 1)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(__doc__, "400 tiles only", written="the raster and the tiles are written")
    parser.add_argument("--tiles", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="of both ways in turn")
    words = parser.parse_args(arguments)
    with scratch(words) as folder:
        record = measure(folder, 400 if words.quick else words.tiles, words.rounds)
    return tell(record)


if __name__ == "__main__":
    main()
