"""How time and peak memory grow with the work: each stage at 1x, 4x and 16x, each in a process of its own.

    python tests/benchmarks/growth.py [--quick] [--only STAGE...] [--unit N] [--plot FILE.png]

Prints one JSON line: the work, seconds and peak memory of each stage and size, the slope of time over work (both in
logarithms, by least squares; 1 is linear), and peak memory at 16x over that at 1x. Seconds are of the work alone, not
of imports and of making the inputs; the peak is that of the process while it works, imports too. Products are computed
in one thread. Draws both.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from machine import forget_peak, peak_mib

from cvgeo.report import Reporter

# Threads that wait for each other on a shared machine would be most of what is measured.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FACTORS = (1, 4, 16)
DIMENSION, QUERIES, GALLERY = 256, 64, 20_000


def timed(work: Callable[[], Any]) -> float:
    """Seconds of a piece of work; what making its inputs took of the memory is forgotten."""
    forget_peak()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def polar(folder: Path, work: int) -> float:
    """The polar maps of a folder of pictures."""
    from polar import whole, write_pictures

    write_pictures(folder / "pictures", work)
    return timed(lambda: whole(folder / "pictures", folder / "maps"))


def tiles(folder: Path, work: int) -> float:
    """Tiles cut from a raster that they cover."""
    from cutting import cut, write_raster

    raster = write_raster(folder / "raster.tif", work)
    return timed(lambda: cut(raster, folder / "tiles"))


def embedding(folder: Path, work: int) -> float:
    """A folder of pictures embedded into a store."""
    from embed import saved_model
    from polar import write_pictures

    from cvgeo.pipelines.embed import EmbedOptions, embed

    write_pictures(folder / "pictures", work)
    model = str(saved_model(folder, "tiny"))
    options = EmbedOptions(device="cpu", jobs=1)
    pictures, store = [str(folder / "pictures")], folder / "tiles.h5"
    return timed(lambda: embed(pictures, store, reporter=Reporter(), model=model, options=options))


def _store(folder: Path, rows: int) -> Path:
    """A store made by another process, which takes with it what that leaves in memory."""
    path = folder / "tiles.h5"
    maker = multiprocessing.get_context("spawn").Process(target=_write_store, args=(path, rows))
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    return path


def _write_store(path: Path, rows: int) -> None:
    from cvgeo.retrieval import StoreHeader, StoreRows, writing

    generator = np.random.default_rng(0)
    with writing(path, StoreHeader("f" * 64, DIMENSION, "aerial")) as writer:
        for start in range(0, rows, 10_000):
            ids = [f"tile_{number:08d}" for number in range(start, min(start + 10_000, rows))]
            vectors = generator.normal(size=(len(ids), DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            writer.add(StoreRows.of(ids, vectors, [f"tiles/{one}.jpg" for one in ids]))
        writer.join()


def _queries(count: int) -> np.ndarray:
    vectors = np.random.default_rng(1).normal(size=(count, DIMENSION)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def searching(folder: Path, work: int) -> float:
    """Exact search of a fixed number of queries in a store of so many rows."""
    from cvgeo.retrieval import EmbeddingStore
    from cvgeo.retrieval.exact import search

    def find() -> None:
        with EmbeddingStore(path) as store:
            search(store, _queries(QUERIES), 10)

    path = _store(folder, work)
    return timed(find)


def evaluating(folder: Path, work: int) -> float:
    """Ranks of so many queries in a store of a fixed number of rows."""
    from cvgeo.retrieval import EmbeddingStore
    from cvgeo.retrieval.exact import ranks

    path, queries = _store(folder, GALLERY), _queries(work)
    pairs = np.arange(work), np.arange(work) % GALLERY
    with EmbeddingStore(path) as store:
        return timed(lambda: ranks(store, queries, pairs))


def training(folder: Path, work: int) -> float:
    """One epoch over so many pairs, decoded when they are needed."""
    from polar import write_pictures

    from cvgeo.data.dataset_files import write_dataset
    from cvgeo.data.schema import Dataset, Pairs, Panoramas, Tiles
    from cvgeo.pipelines.train import TrainOptions, train

    count = work + 16
    paths, every = write_pictures(folder / "pictures", count), np.arange(count)
    ids, split = [f"{number:06d}" for number in every], ["train"] * work + ["val"] * 16
    panoramas = Panoramas(ids, paths, column0_heading=np.full(count, 180.0), hfov=np.full(count, 360.0), split=split)
    data = Dataset("growth", folder, panoramas, Tiles(ids, paths, split=split), Pairs(every, every, np.zeros(count)))
    write_dataset(data, folder)
    options = TrainOptions(device="cpu", jobs=1, memory=0)
    changes = {"train": {"epochs": 1, "batch_size": 16}}
    run = str(folder / "run")
    return timed(
        lambda: train(str(folder), reporter=Reporter(), model="tiny", changes=changes, output=run, options=options)
    )


# The work of each stage at 1x.
STAGES: dict[str, tuple[Callable[[Path, int], float], int]] = {
    "polar": (polar, 150),
    "build-dataset tiles": (tiles, 400),
    "embed": (embedding, 150),
    "search": (searching, 20_000),
    "evaluate": (evaluating, 400),
    "train": (training, 96),
}


def run_stage(name: str, work: int) -> dict[str, float]:
    """Seconds and peak memory in MiB of one stage and size, in this process."""
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="cvgeo-growth-") as folder:
        os.environ["CVGEO_STATE"] = folder
        seconds = STAGES[name][0](Path(folder), work)
    return {"work": work, "seconds": round(seconds, 3), "peak_mib": round(peak_mib(), 1)}


def in_new_process(name: str, work: int) -> dict[str, float]:
    """The same in a process of its own, so that the peak is its own."""
    words = [sys.executable, __file__, "--stage", name, "--work", str(work)]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout.splitlines()[-1])


def slope(points: list[dict[str, float]]) -> float:
    """The exponent of work that time grows with."""
    work, seconds = (np.log([point[key] for point in points]) for key in ("work", "seconds"))
    return float(np.polyfit(work, seconds, 1)[0])


def plot(stages: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Seconds and peak memory by work, both axes in logarithms; a dotted line grows linearly."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from cvgeo.evaluation.plots import COLOURS

    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for colour, (name, points) in zip(COLOURS, stages.items(), strict=False):
        work = np.array([point["work"] for point in points]) / points[0]["work"]
        left.plot(work, [point["seconds"] for point in points], "o-", color=colour, label=name)
        linear = points[0]["seconds"] * work
        left.plot(work, linear, ":", color=colour, alpha=0.6)
        right.plot(work, [point["peak_mib"] for point in points], "o-", color=colour, label=name)
    left.set(xscale="log", yscale="log", xlabel="work, times", ylabel="seconds (dotted: linear)")
    right.set(xscale="log", xlabel="work, times", ylabel="peak memory, MiB", ylim=(0, None))
    for axes in (left, right):
        axes.set_xticks(FACTORS, [f"{factor}x" for factor in FACTORS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    right.legend(frameon=False, fontsize=8)
    figure.savefig(path)


def measure(names: list[str], unit: float, picture: Path) -> dict[str, Any]:
    """The record of some stages; `unit` scales the work of all."""
    stages = {
        name: [in_new_process(name, max(24, round(STAGES[name][1] * unit)) * factor) for factor in FACTORS]
        for name in names
    }
    plot(stages, picture)
    slopes = {name: round(slope(points), 3) for name, points in stages.items()}
    memory = {name: round(points[-1]["peak_mib"] / points[0]["peak_mib"], 3) for name, points in stages.items()}
    largest = {"largest_slope": max(slopes.values()), "largest_memory": max(memory.values())}
    return {**largest, "slopes": slopes, "memory": memory, "stages": stages, "plot": str(picture)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two stages at a tenth of the work")
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES), metavar="STAGE")
    parser.add_argument("--unit", type=float, default=1.0, help="times the usual work")
    parser.add_argument("--plot", type=Path, default=Path(tempfile.gettempdir()) / "growth.png", metavar="FILE.png")
    parser.add_argument("--stage", choices=list(STAGES), help="one stage in this process, of --work")
    parser.add_argument("--work", type=int)
    words = parser.parse_args(arguments)
    if words.stage:
        record = run_stage(words.stage, words.work)
    else:
        names, unit = (["polar", "search"], 0.1) if words.quick else (words.only, words.unit)
        record = measure(names, unit, words.plot)
    print(json.dumps(record))
    return record


if __name__ == "__main__":
    main()
