"""The polar transform against numpy's bilinear sampling, and `cvgeo polar FOLDER` against decoding plus encoding.

    python tests/benchmarks/polar.py [--quick] [--pictures N] [--rounds N] [--folder DIR]

Prints one JSON line. One picture: the transform of the package in one thread, and the sampling of SAFA's released
code, written from its formula, with the coordinates of both computed beforehand. A folder: the pipeline (files, hashes
and text chunks too, all synced) and a plain loop in as many threads that decodes the same bytes and encodes a map of
the same contents. Ways alternate in this process; the best of the rounds counts.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from frame import parser_of, scratch, tell

from cvgeo.geometry.polar import polar_transform
from cvgeo.pipelines.polar import PolarSettings, make_maps
from cvgeo.report import Reporter

SIDE, HEIGHT, WIDTH = 750, 112, 616
JOBS = len(os.sched_getaffinity(0))


def picture(number: int, side: int = SIDE) -> np.ndarray:
    """Noise of eight octaves (side, side, 3), most of it grey.

    Its bytes in JPEG, those of its map in PNG, and the time that both take are those of CVUSA's aerial photographs.
    """
    generator = np.random.default_rng(number)
    texture = np.zeros((side, side, 3), np.float32)
    for octave in range(8):
        cells = 4 << octave
        noise = generator.normal(size=(cells, cells, 1)) + 0.25 * generator.normal(size=(cells, cells, 3))
        texture += cv2.resize(noise.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC) * 0.78**octave
    return np.clip((texture - texture.mean()) / texture.std() * 45 + 110, 0, 255).astype(np.uint8)


def safa_grid() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (HEIGHT, WIDTH) that SAFA's released code samples a tile of SIDE pixels at."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    radius = SIDE / 2 / HEIGHT * (HEIGHT - 1 - row)
    angle = 2 * np.pi * column / WIDTH
    return SIDE / 2 + radius * np.cos(angle), SIDE / 2 - radius * np.sin(angle)


def _within(image: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    sampled = np.zeros((*row.shape, image.shape[2]))
    sampled[inside] = image[row[inside], column[inside]]
    return sampled


def sampled(image: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Bilinear samples, float64 (HEIGHT, WIDTH, 3), taps outside the picture being zero."""
    top, left = np.floor(row).astype(int), np.floor(column).astype(int)
    down, right = (row - top)[..., None], (column - left)[..., None]
    upper = (1 - right) * _within(image, top, left) + right * _within(image, top, left + 1)
    lower = (1 - right) * _within(image, top + 1, left) + right * _within(image, top + 1, left + 1)
    return (1 - down) * upper + down * lower


def best_of(rounds: int, ways: dict[str, Callable[[], Any]], calls: int = 1) -> dict[str, float]:
    """The least seconds of each way, tried in turn; `calls` in a row, so that neither empties the other's cache."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(rounds):
        for name, way in ways.items():
            for _ in range(calls):
                started = time.perf_counter()
                way()
                best[name] = min(best[name], time.perf_counter() - started)
    return best


def measure_transform(rounds: int) -> dict[str, Any]:
    """One picture: milliseconds of both ways, their ratio, and the largest difference in grey levels."""
    image, grid = picture(0), safa_grid()

    def ours() -> np.ndarray:
        return polar_transform(image, HEIGHT, WIDTH, "safa")

    difference = np.abs(ours() - sampled(image, *grid)).max()
    cv2.setNumThreads(1)
    best = best_of(rounds, {"transform": ours, "numpy": lambda: sampled(image, *grid)}, calls=5)
    return {
        "transform_ms": round(1000 * best["transform"], 3),
        "numpy_ms": round(1000 * best["numpy"], 2),
        "transform_ratio": round(best["numpy"] / best["transform"], 1),
        "largest_difference": round(float(difference), 3),
    }


def write_pictures(folder: Path, count: int) -> list[Path]:
    """JPEGs of an aerial photo's size and bytes; some thousand names of 16 contents."""
    folder.mkdir()
    contents = [cv2.imencode(".jpg", picture(number), [cv2.IMWRITE_JPEG_QUALITY, 90])[1] for number in range(16)]
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_bytes(contents[number % len(contents)].tobytes())
    return paths


def plain(paths: list[Path], maps: list[np.ndarray]) -> None:
    """Decode all pictures, and encode a map for each; in as many threads as the program has."""

    def one(number: int) -> int:
        image = cv2.imdecode(np.frombuffer(paths[number].read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB)
        return len(image) + len(cv2.imencode(".png", maps[number % len(maps)])[1])

    with ThreadPoolExecutor(JOBS) as pool:
        assert all(pool.map(one, range(len(paths))))


def whole(source: Path, output: Path) -> int:
    """The pipeline of `cvgeo polar FOLDER -o DIR`; returns how many maps."""
    reporter = Reporter()
    count = sum(1 for _ in make_maps([str(source)], output, PolarSettings(HEIGHT, WIDTH), reporter))
    assert not reporter.failures
    return count


def measure_folder(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """A folder of so many pictures: pictures a second of both ways, and their ratio."""
    paths = write_pictures(folder / "pictures", count)
    maps = [polar_transform(picture(number), HEIGHT, WIDTH)[..., ::-1].copy() for number in range(16)]
    rates: dict[str, list[float]] = {"plain": [], "whole": []}
    for number in range(rounds):
        for name, way in (("plain", lambda: plain(paths, maps)), ("whole", lambda n=number: made(n))):

            def made(n: int) -> None:
                assert whole(folder / "pictures", folder / f"maps{n}") == count

            rates[name].append(count / best_of(1, {"": way})[""])
    best = {name: max(found) for name, found in rates.items()}
    pairs = [round(ours / bare, 3) for bare, ours in zip(rates["plain"], rates["whole"], strict=True)]
    return {
        "pictures": count,
        "jobs": JOBS,
        "plain_pictures_a_second": round(best["plain"], 1),
        "folder_pictures_a_second": round(best["whole"], 1),
        "folder_ratio": round(best["whole"] / best["plain"], 3),
        "ratio_of_each_round": pairs,
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = parser_of(__doc__, "48 pictures, two rounds", written="pictures and maps are written")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument(
        "--rounds", type=int, default=3, help="of a folder; five times as many of one picture, of five calls each"
    )
    words = parser.parse_args(arguments)
    count, rounds = (48, 1) if words.quick else (words.pictures, words.rounds)
    cv2.setNumThreads(1)
    with scratch(words) as folder:
        record = measure_transform(5 * rounds) | measure_folder(folder, count, rounds)
    return tell(record)


if __name__ == "__main__":
    main()
