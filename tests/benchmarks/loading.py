"""An epoch of loading: 750x750 JPEG tiles and 1232x224 JPEG panoramas decoded, against the same views from a pack.

    python tests/benchmarks/loading.py [--quick] [--pairs N] [--jobs N]

Both load the same shuffled batches in the same process on the same cores; the figures are of the views of the paper's
model. One JSON line: the seconds of an epoch, `cold` with the files dropped from the system's cache, `warm` from it;
the ratios; the bytes; and the memory that building and reading a pack takes, at the full number of pairs and at a half.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from machine import peak_mib

from cvgeo.config.schema import ViewConfig
from cvgeo.data.loader import PairLoader
from cvgeo.data.schema import Dataset, Pairs, Panoramas, Tiles
from cvgeo.pipelines.pack import ready_pack
from cvgeo.report import Reporter

BATCH = 8


def _picture(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Blotches of several sizes with some grain: as many bytes a pixel as an aerial photograph has in JPEG."""
    picture = generator.normal(0, 4, (height, width, 3))
    for cell in (4, 16, 64):
        small = generator.normal(0, 24, (height // cell + 2, width // cell + 2, 3))
        picture += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(picture + 120, 0, 255).astype(np.uint8)


def _make(folder: Path, pairs: int) -> Dataset:
    generator = np.random.default_rng(0)
    names = {kind: [folder / f"{kind}{number:05d}.jpg" for number in range(pairs)] for kind in ("ground", "aerial")}
    for kind, (height, width) in (("ground", (224, 1232)), ("aerial", (750, 750))):
        for path in names[kind]:
            cv2.imwrite(str(path), _picture(generator, height, width), [cv2.IMWRITE_JPEG_QUALITY, 90])
    ids, split, every = [f"{number:05d}" for number in range(pairs)], ["train"] * pairs, np.arange(pairs)
    panoramas = Panoramas(ids, names["ground"], column0_heading=np.full(pairs, 180.0), split=split)
    tiles = Tiles(list(ids), names["aerial"], split=list(split))
    return Dataset("benchmark", folder, panoramas, tiles, Pairs(every, every, np.zeros(pairs)))


def _forget(files: list[Path]) -> None:
    for path in files:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def _epoch(loader: PairLoader, pairs: int) -> float:
    order = np.random.default_rng(1).permutation(pairs)
    batches = [np.stack([rows, rows], axis=1) for rows in np.split(order, range(BATCH, pairs, BATCH))]
    start = time.perf_counter()
    loaded = sum(len(batch.ground) for batch in loader.pairs(batches))
    seconds = time.perf_counter() - start
    assert loaded == pairs
    return seconds


def measure(pairs: int, jobs: int) -> dict[str, object]:
    """The figures of a data set of so many pairs."""
    view, reporter = ViewConfig(), Reporter()
    with tempfile.TemporaryDirectory(prefix="cvgeo-loading-") as name:
        folder = Path(name)
        data = _make(folder, pairs)
        pictures = [*data.panoramas.path, *data.tiles.path]
        # The half first: memory that grew with the data set would raise the peak of the whole one above it.
        some = np.arange(pairs // 2)
        tables = data.panoramas.take(some), data.tiles.take(some)
        half = Dataset("half", folder, *tables, Pairs([], [], []))
        ready_pack(half, ["train"], view, folder / "half.h5", jobs, reporter).close()
        peaks = [peak_mib()]
        start = time.perf_counter()
        pack = ready_pack(data, ["train"], view, folder / "pack.h5", jobs, reporter)
        build = time.perf_counter() - start
        loaders = {
            "decoded": PairLoader(data, view, jobs=jobs, memory=0, reporter=reporter),
            "packed": PairLoader(data, view, jobs=jobs, memory=0, reporter=reporter, pack=pack),
        }
        seconds: dict[str, float] = {}
        for what, loader in loaders.items():
            _forget([*pictures, folder / "pack.h5"])
            seconds[f"{what}_cold"] = _epoch(loader, pairs)
            seconds[f"{what}_warm"] = min(_epoch(loader, pairs) for _ in range(2))
        peaks.append(peak_mib())
        assert not reporter.failures
        return {
            "benchmark": "loading",
            "pairs": pairs,
            "jobs": jobs,
            "pack_seconds": round(build, 3),
            **{f"{key}_seconds": round(value, 4) for key, value in seconds.items()},
            "ratio_cold": round(seconds["decoded_cold"] / seconds["packed_cold"], 1),
            "ratio_warm": round(seconds["decoded_warm"] / seconds["packed_warm"], 1),
            "picture_bytes": sum(path.stat().st_size for path in pictures),
            "pack_bytes": (folder / "pack.h5").stat().st_blocks * 512,
            "peak_mib_half": round(peaks[0], 1),
            "peak_mib": round(peaks[1], 1),
        }


def main(arguments: list[str] | None = None) -> None:
    """Print the figures as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 pairs, seconds in all")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=1, help="cores: 1 decodes in the process that reads the pack")
    given = parser.parse_args(arguments)
    print(json.dumps(measure(100 if given.quick else given.pairs, given.jobs)))


if __name__ == "__main__":
    main()
