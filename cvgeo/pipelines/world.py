"""`cvgeo build-dataset world`: a procedural world as files that `pairs` and `tiles` take for real imagery."""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo import __version__
from cvgeo.config.toml import to_toml
from cvgeo.data.sources.raster import RasterSource
from cvgeo.data.tables import write_csv
from cvgeo.data.world import PRESETS, World, WorldKnobs
from cvgeo.data.world.files import ortho_writer, panorama_bytes, write_panorama
from cvgeo.data.world.world import CRS, Tile
from cvgeo.errors import InputError, MismatchError
from cvgeo.paths import atomic_file, check_space, quick_digest, write_text
from cvgeo.report import Reporter

ORTHO, TRUTH, DESCRIPTION, PANORAMAS = "ortho.tif", "truth.csv", "world.toml", "panoramas"
TYPICAL_BYTES, LEAST_BYTES = 0.3, 0.02  # a pixel of the JPEGs: of a world, and of an even colour
FORMAT = 1  # raised when the same settings make another world than before


@dataclass(frozen=True)
class WorldSettings:
    """What a world is made from. `panoramas` None: as many as have room."""

    output: Path
    seed: int = 0
    size_km: float = 1.0
    preset: str = "aligned"
    knobs: WorldKnobs = PRESETS["aligned"]
    panoramas: int | None = None
    textures: tuple[Path, ...] = ()
    jobs: int = 1
    overwrite: bool = False

    def record(self) -> dict[str, Any]:
        """The settings that decide about the world's pixels."""
        return {
            "seed": self.seed,
            "size_km": self.size_km,
            "preset": self.preset,
            "panoramas": self.panoramas,
            "knobs": self.knobs.as_dict(),
            "textures": [quick_digest(path) for path in self.textures],
        }

    def fingerprint(self) -> str:
        """SHA-256 of what decides about the pixels."""
        text = json.dumps({"format": FORMAT, **self.record()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def world(self) -> World:
        """The world itself."""
        return World(self.seed, self.size_km, self.knobs, self.panoramas, self.textures)


def build_world(settings: WorldSettings, reporter: Reporter) -> dict[str, Any]:
    """Write a world: `ortho.tif`, `panoramas/*.jpg`, `truth.csv` and `world.toml`.

    Over an output of the same settings only what is missing is made. Raises MismatchError where another world, or
    something else, is there; UsageError where the panoramas have no room.
    """
    output = settings.output
    _check_textures(settings.textures)
    _claim(settings)
    world = settings.world()
    reporter.note(f"laying out {settings.size_km:g} km of {settings.preset} world, seed {settings.seed}")
    reporter.now("laying out the world")
    truth = world.truth
    if settings.panoramas is not None and world.places.spacing_m < settings.knobs.spacing_m:
        reporter.note(f"panoramas stand {world.places.spacing_m:.0f} m apart at the least, so that all have room")
    write_text(output / DESCRIPTION, to_toml(_description(settings, world)))
    with atomic_file(output / TRUTH) as temporary:
        write_csv(temporary, vars(truth))
    _render(settings, world, reporter)
    return {
        "world": str(output),
        "ortho": str(output / ORTHO),
        "panoramas": len(truth),
        "size_km": world.size_m / 1000,
        "preset": settings.preset,
        "seed": settings.seed,
        "fingerprint": settings.fingerprint(),
    }


def _check_textures(paths: Sequence[Path]) -> None:
    for path in paths:
        with RasterSource(path):
            pass


def _claim(settings: WorldSettings) -> None:
    """See that the output is free, ours to continue, or to be overwritten."""
    output, mend = settings.output, "name another folder, or --overwrite it"
    if output.exists() and not output.is_dir():
        raise InputError("is not a folder", path=output, mend="name a folder with -o")
    if settings.overwrite:
        for path in [output / ORTHO, output / TRUTH, output / DESCRIPTION, *(output / PANORAMAS).glob("*.jpg")]:
            path.unlink(missing_ok=True)
    if (output / DESCRIPTION).is_file():
        if read_world(output).get("fingerprint") != settings.fingerprint():
            raise MismatchError("holds a world made with other settings", path=output, mend=mend)
    elif any((output / name).exists() for name in (ORTHO, TRUTH, PANORAMAS)) and not settings.overwrite:
        raise MismatchError("holds files that are no world of this program", path=output, mend=mend)


def read_world(folder: Path) -> dict[str, Any]:
    """`world.toml` of a world. Raises InputError where it is missing or damaged."""
    path = folder / DESCRIPTION
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("is not there", path=path, mend="build the world first") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"is damaged: {error}", path=path, mend="build the world again with --overwrite") from error


def _description(settings: WorldSettings, world: World) -> dict[str, Any]:
    knobs = settings.knobs
    return {
        "note": "A procedural, fictional place: nothing at these coordinates looks like this (they are open sea).",
        "tool": f"cvgeo {__version__}",
        "fingerprint": settings.fingerprint(),
        "seed": settings.seed,
        "preset": settings.preset,
        "size_km": world.size_m / 1000,
        "crs": CRS,
        "gsd_m": knobs.gsd_m,
        "panoramas": len(world.places),
        "spacing_m": round(world.places.spacing_m, 2),
        "tile_metres": knobs.tile_metres,
        "tile_step_m": knobs.tile_step_m,
        "textures": [path.name for path in settings.textures],
        "knobs": knobs.as_dict(),
    }


def _render(settings: WorldSettings, world: World, reporter: Reporter) -> None:
    """Make what is missing of orthophoto and panoramas, block by block."""
    folder = settings.output / PANORAMAS
    with_ortho = not (settings.output / ORTHO).is_file()
    tasks = []
    for tile in world.tiles():
        missing = [int(i) for i in world.panoramas_in(tile) if not (settings.output / world.truth.file[i]).is_file()]
        if missing or with_ortho:
            tasks.append((tile, missing, with_ortho))
    if not tasks:
        reporter.note("everything is there already")
        return
    _check_space(settings, world, sum(len(panoramas) for _, panoramas, _ in tasks), with_ortho, reporter)
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        ortho = stack.enter_context(ortho_writer(settings.output / ORTHO, world)) if with_ortho else None
        blocks = stack.enter_context(contextlib.closing(_blocks(settings, world, tasks)))
        for tile, image in reporter.track(blocks, "rendering blocks", len(tasks)):
            if ortho is not None:
                window = ((tile.row, tile.row + tile.rows), (tile.col, tile.col + tile.cols))
                ortho.write(np.moveaxis(image, 2, 0), window=window)


def _check_space(settings: WorldSettings, world: World, panoramas: int, ortho: bool, reporter: Reporter) -> None:
    """Warn, or refuse, where the disk has no room. Raises OutputError."""
    knobs = world.knobs
    pixels = panoramas * knobs.panorama_width * knobs.panorama_height + ortho * world.pixels**2 * 4 // 3
    what = f"a world of {settings.size_km:g} km"
    reporter.warn_if(check_space(settings.output, what, TYPICAL_BYTES * pixels, LEAST_BYTES * pixels))


Task = tuple[Tile, list[int], bool]


def _blocks(settings: WorldSettings, world: World, tasks: Sequence[Task]) -> Iterator[tuple[Tile, np.ndarray | None]]:
    """Render tasks, in order, here or in worker processes."""
    workers = min(settings.jobs or os.cpu_count() or 1, len(tasks))
    if workers == 1:
        for task in tasks:
            yield render_block(world, settings.output, task)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(settings,))
    try:
        yield from pool.map(_work, tasks)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def render_block(world: World, output: Path, task: Task) -> tuple[Tile, np.ndarray | None]:
    """Write a block's panoramas; returns its part of the orthophoto, None where that is not wanted."""
    tile, panoramas, with_ortho = task
    for index in panoramas:
        data = panorama_bytes(world.render_panorama(index), world.truth, index, world.knobs.jpeg_quality)
        write_panorama(output / world.truth.file[index], data)
    image = world.render_tile(tile) if with_ortho else None
    return tile, image


_worker: list[tuple[World, Path]] = []


def _start_worker(settings: WorldSettings) -> None:
    # Ctrl-C reaches every process of the terminal: the parent tells of it and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from cvgeo.geometry.opencv import import_cv2

    import_cv2().setNumThreads(1)
    _worker.append((settings.world(), settings.output))


def _work(task: Task) -> tuple[Tile, np.ndarray | None]:
    world, output = _worker[0]
    return render_block(world, output, task)
