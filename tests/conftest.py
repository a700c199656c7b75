"""Fixtures that several rooms share."""

from __future__ import annotations

import http.server
import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

# Two test processes share two cores, and small tensors gain nothing from more threads. Set before torch is imported,
# and inherited by the programs that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import pytest

from cvgeo.data.dataset_files import write_dataset
from cvgeo.data.schema import Dataset, Pairs, Panoramas, Tiles

HERE = Path(__file__).parent
SECTORS = 16  # of a place of `make_rings`
RING_METRES = 32.0  # a side of its tile


def _ring(generator: np.random.Generator) -> np.ndarray:
    return generator.integers(0, 256, (SECTORS, 3), dtype=np.uint8)


def _panorama(ring: np.ndarray, height: int = 64, width: int = 128) -> np.ndarray:
    """(height, width, 3): column 0 looks south, headings clockwise; sector s starts at heading 360 s / 16."""
    heading = (180 + 360 * (np.arange(width) + 0.5) / width) % 360
    colours = ring[(heading / 360 * SECTORS).astype(int)]
    return np.repeat(colours[None], height, axis=0)


def _tile(ring: np.ndarray, size: int = 64) -> np.ndarray:
    """(size, size, 3), north up."""
    row, column = np.mgrid[:size, :size] + 0.5 - size / 2
    heading = np.degrees(np.arctan2(column, -row)) % 360
    return ring[(heading / 360 * SECTORS).astype(int) % SECTORS]


@pytest.fixture(scope="session")
def make_rings() -> Callable[..., Dataset]:
    """A function (folder, train=12, val=6, seed=0) that writes a data set of aligned pairs and returns it.

    Each place is a ring of 16 coloured sectors around its panorama, so that pairs can be told apart and directions too.
    """
    return _make_rings


def _make_rings(folder: Path, train: int = 12, val: int = 6, seed: int = 0) -> Dataset:
    generator = np.random.default_rng(seed)
    (folder / "pictures").mkdir(parents=True)
    count = train + val
    splits = ["train"] * train + ["val"] * val
    ids = [f"p{number:03d}" for number in range(count)]
    paths: dict[str, list[Path]] = {"ground": [], "aerial": []}
    for number in range(count):
        ring = _ring(generator)
        for kind, picture in (("ground", _panorama(ring)), ("aerial", _tile(ring))):
            path = folder / "pictures" / f"{kind}{number:03d}.png"
            cv2.imwrite(str(path), picture[:, :, ::-1])
            paths[kind].append(path)
    lat, lon = 52 + np.arange(count) * 1e-3, np.full(count, 13.0)
    dataset = Dataset(
        "rings",
        folder,
        Panoramas(ids, paths["ground"], lat, lon, np.full(count, 180.0), np.full(count, 360.0), split=splits),
        Tiles(
            [f"t{number:03d}" for number in range(count)], paths["aerial"], lat, lon, np.full(count, 0.5), split=splits
        ),
        Pairs(np.arange(count), np.arange(count), np.zeros(count)),
    )
    write_dataset(dataset, folder)
    return dataset


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_dataset() -> Callable[..., Path]:
    """A function (layout, folder, **options): writes the miniature of `data/<layout>/make.py`, returns its folder."""
    return lambda layout, folder, **options: _load(HERE / "data" / layout / "make.py").make(folder, **options)


@pytest.fixture(scope="session")
def geotagged() -> ModuleType:
    """The module that writes small geotagged pictures (`data/sources/geotagged.py`)."""
    return _load(HERE / "data" / "sources" / "geotagged.py")


@pytest.fixture(scope="session")
def rings_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A function (seed=0, circular=True) that gives the checkpoint of a small model of random weights.

    Its branches share them, so that it finds the places of `make_rings` without training.
    """
    folder = tmp_path_factory.mktemp("models")

    def make(seed: int = 0, circular: bool = True) -> Path:
        import torch

        from cvgeo.config.schema import Config
        from cvgeo.models import create_model
        from cvgeo.training.checkpoint import save_checkpoint

        path = folder / f"rings-{seed}-{circular}.safetensors"
        if not path.exists():
            size = {"ground_height": 32, "ground_width": 128, "aerial_height": 32, "aerial_width": 128}
            options = {"stride": 8, "width": 8, "circular": circular}
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                parts = {"aggregator": "columns", "aggregator_options": {}, "share": True, "view": size}
                model = create_model("tiny", backbone_options=options, **parts)
            # As if it had been trained on the rings.
            said = {"fit": "place", "ground_rows": None, "aligned": None, "tile_metres": [RING_METRES, RING_METRES]}
            save_checkpoint(path, model.eval(), Config(model=model.config), {}, conventions=said)
        return path

    return make


class _TileHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["User-Agent"], time.monotonic()))
        self.server.headers_asked.append(dict(self.headers))
        answers = self.server.answers.get(self.path, [self.server.other])
        status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def tile_server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server of map tiles, its URL in `template`, what it was asked in `asked`.

    `answers` maps a path to a list of (status, headers, body), the last one for ever; `other` is for all other paths.
    """
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _TileHandler) as running:
        running.asked, running.headers_asked, running.answers, running.other = [], [], {}, (404, {}, b"")
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.template = f"http://127.0.0.1:{running.server_address[1]}/{{z}}/{{x}}/{{y}}.png?key=secret"
        yield running
        running.shutdown()
