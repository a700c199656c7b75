"""Outputs where nothing can be written: a disk that is full, one that may only be read, a folder without permission."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Toys, preloaded_program

# Calls that write into the folder AT; the files that they take lie in the folder that they run in.
AERIAL = "--aerial a.tif --tile-metres 20 --tile-size 32"
CALLS = {
    "polar": "polar a.png -o AT/x.png",
    "polar of many": "polar a-data/pictures/aerial000.png a-data/pictures/aerial001.png -o AT/maps",
    "pairs": f"build-dataset pairs a-photos {AERIAL} -o AT/made",
    "tiles": f"build-dataset tiles {AERIAL} -o AT/made",
    "area": f"build-dataset area {AERIAL} --spacing 20 --apart 1 -o AT/made",
    "world": "build-dataset world --size-km 0.3 --panoramas 1 --seed 3 -o AT/made",
    "train": "train -d a-data --recipe demo -o AT/run",
    "embed": "embed -d a-data --model a.safetensors -o AT/x.h5",
    "search --sheet": "search a.jpg --store a.h5 --sheet AT/x.png",
    "search --map": "search a.jpg --store a.h5 --map AT/x.html",
    "evaluate --store": "evaluate -d a-data --model a.safetensors --store AT/x.h5",
    "evaluate --per-query": "evaluate -d a-data --model a.safetensors --per-query AT/x.csv",
    "ablate": "ablate -d a-data --recipe demo --epochs 1 --batch-size 2 --vary train.roll=0,1 -o AT/made",
    "heatmap": "heatmap a.jpg a-photos --tile a.png --model a.safetensors --hfov 360 -o AT/made",
    "info --sheet": "info a-data --sheet AT/x.png",
}


@pytest.fixture
def here(toys, tmp_path) -> Path:
    return toys.called(b"a", tmp_path / "here")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small disk of its own, 64 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def refused(toys, here: Path, call: str, place: Path) -> str:
    """The one line that tells why a call cannot write into a place, of a call that fails as it should."""
    done = toys.run(call.replace("AT", str(place)), b"", here)
    assert done.returncode == 1, done.stderr.decode()
    told = [line for line in done.stderr.decode().splitlines() if str(place) in line]
    assert len(told) == 1 and told[0].startswith(f"cvgeo: {place}"), done.stderr.decode()
    assert "Traceback" not in done.stderr.decode() and not done.stdout
    return told[0]


@pytest.mark.parametrize("name", CALLS)
def test_a_full_disk(toys, here, disk, name):
    (disk / "filling").write_bytes(bytes(60 << 10))
    with pytest.raises(OSError, match="No space"):
        (disk / "more").write_bytes(bytes(60 << 10))
    (disk / "filling").write_bytes(bytes((disk / "filling").stat().st_size))
    line = refused(toys, here, CALLS[name], disk)
    assert "no space left on device; free some space" in line or "does not fit into" in line
    assert not [one for one in disk.rglob("*") if one.is_file() and one.name not in ("filling", "more")]


@pytest.mark.parametrize("kilobytes", [12, 16, 20, 24])
def test_a_disk_that_gets_full_leaves_no_store_without_rows(toys, here, disk, kilobytes):
    (disk / "filling").write_bytes(bytes((64 - kilobytes) << 10))
    done = toys.run(CALLS["embed"].replace("AT", str(disk)), b"", here)
    if done.returncode == 0:
        assert toys.run(f"info --verify {disk}/x.h5", b"", here).returncode == 0
    else:
        assert done.returncode == 1 and [one.name for one in disk.iterdir()] == ["filling"], done.stderr


@pytest.mark.parametrize("name", CALLS)
def test_a_disk_that_may_only_be_read(toys, here, disk, name):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert "read-only file system; name another place" in refused(toys, here, CALLS[name], disk)


def test_maps_beside_pictures_on_a_disk_that_may_only_be_read(toys, here, disk):
    for number in range(6):
        shutil.copy(here / "a.png", disk / f"{number}.png")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    refused(toys, here, "polar AT", disk)


@pytest.fixture(scope="module")
def ordinary(toys, tmp_path_factory) -> Iterator[Toys]:
    """The toys, and a program for which permissions hold, also where root runs the tests."""
    if os.geteuid():
        yield toys
        return
    if not shutil.which("setpriv"):
        pytest.skip("root may write into every folder, and there is no setpriv to do without that")
    without = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    with preloaded_program(tmp_path_factory.mktemp("ordinary"), toys.environment, without) as environment:
        yield Toys(toys.files, environment)


@pytest.mark.parametrize("name", CALLS)
def test_a_folder_without_permission(ordinary, here, tmp_path, name):
    place = tmp_path / "closed"
    place.mkdir(mode=0o555)
    assert "permission denied; check the permissions" in refused(ordinary, here, CALLS[name], place)
    assert not list(place.iterdir())


# Calls and the input of theirs that may not be read.
UNREADABLE = [
    ("polar a.png", "a.png"),
    ("info a.png", "a.png"),
    ("info a.h5", "a.h5"),
    ("info a.safetensors", "a.safetensors"),
    ("info a.tif", "a.tif"),
    ("info a-data", "a-data/tiles.csv"),
    ("embed a.png --model a.safetensors -o x.h5", "a.png"),
    ("embed a.png --model a.safetensors -o x.h5", "a.safetensors"),
    ("embed -d a-data --model a.safetensors -o x.h5", "a-data/dataset.toml"),
    ("embed a-photos --model a.safetensors -o x.h5", "a-photos"),
    ("index a.h5", "a.h5"),
    ("search a.jpg --store a.h5", "a.h5"),
    ("search a.jpg --store a.h5", "a.jpg"),
    ("search a.jpg --store a.h5 --polygon a.geojson", "a.geojson"),
    ("search a.jpg --store a.h5 --map x.html --ortho a.tif", "a.tif"),
    ("evaluate -d a-data --model a.safetensors", "a.safetensors"),
    ("evaluate -d a-data --model a.safetensors", "a-data/pairs.csv"),
    ("evaluate -d a-data --model a.safetensors --against a.csv", "a.csv"),
    ("heatmap a.jpg --tile a.png --model a.safetensors --hfov 360 -o x.png", "a.png"),
    ("train -d a-data --recipe demo -o run", "a-data/panoramas.csv"),
    ("ablate -d a-data --table a.toml -o made", "a.toml"),
    ("ablate -d a-data --recipe demo --vary train.roll=0,1 -o made", "a-data/panoramas.csv"),
    ("build-dataset pairs a-photos --aerial a.tif -o made", "a.tif"),
    ("build-dataset pairs --positions a.csv --aerial a.tif -o made", "a.csv"),
    ("build-dataset tiles --aerial a.tif --tile-metres 20 -o made", "a.tif"),
    ("build-dataset area --aerial a.tif --tile-metres 20 -o made", "a.tif"),
    ("build-dataset world --texture a.tif --size-km 0.3 --panoramas 1 -o made", "a.tif"),
    ("build-dataset check a-data", "a-data/tiles.csv"),
    ("models", "cvgeo.toml"),
]


@pytest.mark.parametrize(("line", "name"), UNREADABLE, ids=lambda word: word.replace("/", " "))
def test_an_input_that_may_not_be_read(ordinary, here, line, name):
    (here / "a.toml").touch()
    (here / name).chmod(0)
    done = ordinary.run(line, b"", here)
    (here / name).chmod(0o700)
    # A check of a data set tells of it in a record.
    said = (done.stdout if "check" in line else done.stderr).decode().lower().splitlines()
    told = [one for one in said if Path(name).name in one and "permission denied" in one]
    assert done.returncode == 3 and len(told) == 1, done
    assert all(one.startswith("cvgeo: ") for one in done.stderr.decode().splitlines()), done.stderr.decode()


@pytest.mark.parametrize("name", CALLS)
def test_a_file_where_a_folder_is_needed(toys, here, tmp_path, name):
    place = tmp_path / "in the way"
    place.write_text("mine")
    call = CALLS[name].replace("AT/", "FILE/").replace("FILE", "in-the-way")
    (here / "in-the-way").write_text("mine")
    done = toys.run(call, b"", here)
    assert done.returncode == 1, done.stderr.decode()
    told = [line for line in done.stderr.decode().splitlines() if "in-the-way" in line]
    assert len(told) == 1 and "stands where a folder is needed" in told[0], done.stderr.decode()
    assert (here / "in-the-way").read_text() == "mine"


def test_a_state_folder_that_cannot_be_written_is_no_fault(toys, here, tmp_path):
    (tmp_path / "state").write_text("")
    environment = toys.environment | {"CVGEO_STATE": str(tmp_path / "state" / "cvgeo")}
    done = toys.run("embed a.png --model a.safetensors -o x.h5", b"", here, env=environment)
    assert done.returncode == 0 and (here / "x.h5").exists()
    assert b"search will not know that this store was made last" in done.stderr
