"""The program as its users start it, and a program of toy commands in the same frame."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TOY = Path(__file__).with_name("toy_program.py")
Run = Callable[..., subprocess.CompletedProcess[bytes]]


def clean_environment(home: Path) -> dict[str, str]:
    """The environment without what would change the program's behaviour, with a home of its own."""
    passed = {key: value for key, value in os.environ.items() if not key.startswith(("CVGEO_", "XDG_", "_TYPER"))}
    for key in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERMINAL_WIDTH", "PY_COLORS", "GITHUB_ACTIONS"):
        passed.pop(key, None)
    # Programs that come with the environment's packages (torchrun) are found where it is not active.
    passed["PATH"] = f"{os.path.dirname(sys.executable)}{os.pathsep}{passed['PATH']}"
    return passed | {"HOME": str(home), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "home").mkdir()
    return clean_environment(tmp_path / "home")


@pytest.fixture
def toy_words() -> list[str]:
    """The command line that starts the toy program."""
    return [sys.executable, str(TOY)]


@pytest.fixture
def program(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Run `cvgeo` (or the toy program) in an empty folder; options go to subprocess.run, `env` adds variables."""
    (tmp_path / "here").mkdir()

    def run(*words: str | bytes, toy: bool = False, env: dict[str, str] | None = None, **options: object):
        start = [str(TOY)] if toy else ["-m", "cvgeo"]
        settings = {"cwd": tmp_path / "here", "capture_output": True, "timeout": 120, "stdin": subprocess.DEVNULL}
        return subprocess.run(
            [sys.executable, *start, *words], env=environment | (env or {}), **{**settings, **options}
        )

    return run


PRELOADED = Path(__file__).with_name("preloaded.py")
# Every model that is trained or made from a preset in a workshop is this small.
SMALL = [f"model.view.{kind}_{side}" for kind in ("ground", "aerial") for side in ("height=16", "width=64")]
SETTINGS = f"""
device = "cpu"
jobs = 1
[train]
epochs = 1
batch-size = 2
threads = 1
set = {[*SMALL, "model.backbone_options.width=8", "model.aggregator_options.columns=4"]}
""".replace("'", '"')
MAKE = """
cvgeo build-dataset world --size-km 0.3 --panoramas 16 --seed 3 -o world
cvgeo build-dataset pairs world/panoramas --aerial world/ortho.tif --tile-metres 30 --tile-size 64 -o data
cvgeo train -d data --recipe demo -o runs/small
cvgeo embed -d data --model runs/small -o tiles.h5
"""


@dataclass
class Workshop:
    """A folder of toys and the environment in which `cvgeo` is the program."""

    folder: Path
    environment: dict[str, str]

    def shell(self, line: str, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a line in bash in the folder."""
        settings = {"cwd": self.folder, "env": self.environment, "capture_output": True, "text": True}
        settings |= {"stdin": subprocess.DEVNULL, "errors": "surrogateescape", "timeout": timeout}
        return subprocess.run(["bash", "-c", line], **{**settings, **options})

    def copy(self, folder: Path) -> Workshop:
        """The same toys in a folder of its own, files shared where the system can."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workshop(folder, self.environment | {"CVGEO_STATE": str(folder / "state")})


@contextmanager
def preloaded_program(folder: Path, environment: dict[str, str], within: list[str]) -> Iterator[dict[str, str]]:
    """An environment in which `cvgeo` is the program in a fork of a process that has its libraries loaded.

    `within` are the words of a program that starts that process.
    """
    (folder / "bin").mkdir(parents=True)
    # The path of a socket may have a hundred letters; those of tests' folders are longer.
    address = os.path.join(tempfile.mkdtemp(prefix="cvgeo-"), "socket")
    words = f"'{sys.executable}' -S -E -s '{PRELOADED}' '{address}'"
    (folder / "bin" / "cvgeo").write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    (folder / "bin" / "cvgeo").chmod(0o755)
    pipe = subprocess.PIPE
    call = [*within, sys.executable, str(PRELOADED), "--serve", address]
    with subprocess.Popen(call, env=environment, stdin=pipe, stdout=pipe) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == b"ready\n"
            yield environment | {"PATH": f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"}
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(timeout=20)
            shutil.rmtree(os.path.dirname(address))


def furnish(workshop: Workshop, make_dataset: Callable[..., Path]) -> None:
    """Fill the folder, with the program itself."""
    folder = workshop.folder
    (folder / "cvgeo.toml").write_text(SETTINGS)
    made = workshop.shell(f"set -e; {MAKE}", timeout=300)
    assert made.returncode == 0, made.stderr
    panoramas, tiles = sorted((folder / "world/panoramas").iterdir()), sorted((folder / "data/tiles").rglob("*.*"))
    for name in ("bingmap/19", "photos", "sheets", "datasets"):
        (folder / name).mkdir(parents=True)
    copies = {
        "pano.jpg": panoramas[0],
        "tile.png": tiles[0],
        "photos/1.jpg": panoramas[1],
        "photos/2.jpg": panoramas[2],
    }
    copies |= {"bingmap/19/0000001.jpg": tiles[1], "ortho.tif": folder / "world/ortho.tif"}
    copies |= {"sheets/a.tif": folder / "world/ortho.tif"}
    for name, source in copies.items():
        shutil.copy(source, folder / name)
    (folder / "panoramas").symlink_to("world/panoramas")
    (folder / "tiles").symlink_to("data/tiles")
    for name in ("cvusa", "vigor"):
        make_dataset(name, folder / "datasets" / name)


@pytest.fixture(scope="session")
def quick_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment with a home of its own in which `cvgeo` starts at once."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "home").mkdir()
    with preloaded_program(folder, clean_environment(folder / "home"), []) as environment:
        yield environment


@pytest.fixture(scope="session")
def furnished(
    tmp_path_factory: pytest.TempPathFactory, quick_environment: dict[str, str], make_dataset: Callable[..., Path]
) -> Workshop:
    """The workshop that all tests copy or only read."""
    folder = tmp_path_factory.mktemp("furnished")
    places = {"CVGEO_DATA": str(folder / "datasets"), "CVGEO_STATE": str(folder / "state")}
    workshop = Workshop(folder, quick_environment | places | {"CVGEO_CACHE": str(folder / "cache")})
    furnish(workshop, make_dataset)
    return workshop


@dataclass
class Toys:
    """Files to take, by what stands behind their name, and the environment in which `cvgeo` is the program."""

    files: dict[str, Path]
    environment: dict[str, str]

    def called(self, name: bytes, folder: Path) -> Path:
        """A folder with the files, called `name` and what they are."""
        folder.mkdir()
        (folder / "cvgeo.toml").write_text(SETTINGS)
        for end, path in self.files.items():
            target = os.path.join(os.fsencode(folder), name + end.encode())
            shutil.copytree(path, os.fsdecode(target)) if path.is_dir() else shutil.copy(path, os.fsdecode(target))
        table = b"file,lat,lon,heading\n"
        for number in range(3):
            photo = b'"' + (name + b"-photos/" + name + b"%d.jpg" % number).replace(b'"', b'""') + b'"'
            os.rename(folder / os.fsdecode(name + b"-photos") / f"{number}.jpg",
                      folder / os.fsdecode(name + b"-photos") / os.fsdecode(name + b"%d.jpg" % number))  # fmt: skip
            table += photo + b",%.6f,13.0,0\n" % (52 + number * 4e-4)
        (folder / os.fsdecode(name + b".csv")).write_bytes(table)
        return folder

    def run(self, line: str, name: bytes, folder: Path, **options: object) -> subprocess.CompletedProcess[bytes]:
        """Run a call in a folder, NAME replaced by `name`."""
        return self.call([word.encode().replace(b"NAME", name) for word in line.split()], folder, **options)

    def call(
        self, words: list[bytes] | list[str], folder: Path, **options: object
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the program with these words in a folder."""
        settings = {"cwd": folder, "env": self.environment, "capture_output": True, "timeout": 120}
        settings |= {} if "input" in options else {"stdin": subprocess.DEVNULL}
        return subprocess.run([shutil.which("cvgeo", path=self.environment["PATH"]), *words], **settings | options)


def _aerial(path: Path) -> None:
    import rasterio
    from rasterio.transform import from_origin

    from cvgeo.geometry.geodesy import latlon_to_map

    x, y = latlon_to_map(np.array([52.0004]), np.array([13.0]), "EPSG:32633")
    profile = {"driver": "GTiff", "height": 512, "width": 512, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    profile["transform"] = from_origin(x[0] - 64, y[0] + 64, 0.25, 0.25)
    with rasterio.open(path, "w", **profile) as target:
        target.write(np.random.default_rng(0).integers(0, 256, (3, 512, 512), dtype=np.uint8))


@pytest.fixture(scope="session")
def toys(tmp_path_factory, quick_environment, make_rings, rings_model, geotagged) -> Toys:
    """One set of them for all tests; each test takes copies."""
    folder = tmp_path_factory.mktemp("toys")
    make_rings(folder / "data", train=4, val=2)
    _aerial(folder / "a.tif")
    (folder / "photos").mkdir()
    pictures = folder / "data" / "pictures"
    for number in range(3):
        exif = Image.Exif()
        exif[0x8825] = geotagged.gps(52 + number * 4e-4, 13.0)
        facts = geotagged.gpano(ProjectionType="equirectangular", PoseHeadingDegrees=0).encode()
        picture = Image.open(pictures / f"ground00{number}.png")
        picture.save(folder / "photos" / f"{number}.jpg", exif=exif, xmp=facts)
    box = [[13.1, 51.9], [13.1, 52.1], [12.9, 52.1], [12.9, 51.9], [13.1, 51.9]]
    (folder / "box.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [box]}))
    files = {"-data": folder / "data", "-photos": folder / "photos", ".tif": folder / "a.tif"}
    files |= {".png": pictures / "aerial004.png", ".jpg": folder / "photos" / "0.jpg"}
    files |= {".safetensors": rings_model(), ".h5": folder / "tiles.h5", ".geojson": folder / "box.geojson"}
    places = {"CVGEO_STATE": str(folder / "state"), "CVGEO_CACHE": str(folder / "cache"), "CVGEO_DEVICE": "cpu"}
    made = Toys(files, quick_environment | places | {"TMPDIR": str(folder / "tmp")})
    (folder / "tmp").mkdir()
    done = made.run(f"embed -d data --model {rings_model()} --jobs 1 -o tiles.h5", b"", folder)
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def make_store(
    tmp_path_factory: pytest.TempPathFactory, make_rings: Callable[..., object], rings_model: Callable[[], Path]
) -> Callable[[int], Path]:
    """A function (places) that makes a folder with pictures and `tiles.h5`, a store of their tiles."""
    from cvgeo.pipelines.embed import EmbedOptions, embed
    from cvgeo.report import Reporter

    def make(places: int) -> Path:
        folder = tmp_path_factory.mktemp("tiles")
        make_rings(folder / "data", train=places, val=0)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CVGEO_STATE", str(folder / "state"))
            options = EmbedOptions(device="cpu", jobs=1)
            call = {"reporter": Reporter(), "model": str(rings_model()), "options": options}
            embed([], folder / "tiles.h5", dataset=str(folder / "data"), **call)
        return folder

    return make
