import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from cvgeo.retrieval import EmbeddingStore


@pytest.fixture
def here(tmp_path, program, make_rings, rings_model):
    """The folder in which `program` runs, with a data set in `data` and a model `model.safetensors`."""
    folder = tmp_path / "here"
    make_rings(folder / "data", train=6, val=4)
    (folder / "model.safetensors").write_bytes(rings_model().read_bytes())
    return folder


EMBED = ("embed", "--dataset", "data", "--model", "model.safetensors", "-o", "tiles.h5", "-j", "1", "--device", "cpu")


def test_record_summary_and_statuses(program, here):
    (here / "data" / "pictures" / "aerial001.png").write_bytes(b"no")
    first = program(*EMBED)
    record = json.loads(first.stdout)
    assert first.returncode == 5 and (record["store"], record["rows"], record["failed"]) == ("tiles.h5", 9, 1)
    lines = first.stderr.decode().splitlines()
    assert "aerial001.png" in lines[0] and "9 rows (9 new, 0 reused, 1 failed) in tiles.h5" in first.stderr.decode()
    with open(here / "tiles.h5", "r+b") as file:
        file.truncate(2000)
    damaged = program(*EMBED)
    assert damaged.returncode == 3 and b"tiles.h5: damaged" in damaged.stderr and not damaged.stdout
    assert len(damaged.stderr.splitlines()) == 1


def test_where_nothing_can_be_embedded_no_store_is_made(program, here):
    (here / "bad.png").write_bytes(b"no")
    (here / "empty").mkdir()
    for name, said in (("bad.png", "none of the pictures can be embedded"), ("empty", "no pictures to embed")):
        done = program("embed", name, "--model", "model.safetensors", "-o", "x.h5", "-j", "1")
        assert done.returncode == 3 and not done.stdout and said in done.stderr.decode().splitlines()[-1]
        assert not list(here.glob("x.h5*"))


def test_paths_and_model_come_from_pipes(program, here):
    paths = "data/pictures/aerial000.png\ndata/pictures/aerial001.png\n"
    words = ("embed", "-", "--model", "model.safetensors", "-o", "a.h5", "-j", "1")
    options = {"stdin": None, "input": paths.encode()}
    done = program(*words, **options)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 2
    record = json.dumps({"checkpoint": "model.safetensors", "epochs": 3}).encode()
    words = ("embed", "data/pictures/aerial000.png", "--model", "-", "-o", "b.h5", "-j", "1")
    done = program(*words, stdin=None, input=record)
    assert done.returncode == 0 and json.loads(done.stdout)["rows"] == 1


def _start(here, environment, store, *more):
    words = [
        sys.executable,
        "-m",
        "cvgeo",
        *EMBED[:6],
        store,
        *EMBED[7:],
        "--batch-size",
        "2",
        "--part-rows",
        "4",
        *more,
    ]
    quiet = subprocess.DEVNULL
    return subprocess.Popen(words, cwd=here, env=environment, stdout=quiet, stderr=quiet)


def _rows(path):
    with EmbeddingStore(path) as store:
        order = np.argsort(store.columns.id)
        assert len(set(store.columns.id)) == len(store)
        return [store.columns.id[row] for row in order], store.fetch(order)


def _assert_equal_to_undisturbed(here, environment, *more):
    if not (here / "whole.h5").exists():
        assert _start(here, environment, "whole.h5", *more).wait(120) == 0
    assert _start(here, environment, "killed.h5", *more).wait(120) == 0
    for killed, whole in zip(_rows(here / "killed.h5"), _rows(here / "whole.h5"), strict=True):
        np.testing.assert_array_equal(killed, whole)
    leftovers = [entry.name for entry in here.iterdir() if entry.name.startswith((".", "killed.h5."))]
    assert not [name for name in leftovers if not name.endswith(".parts")]


def _parts(path):
    folder = path.with_name(path.name + ".parts")
    return len(list(folder.glob("part-*.h5"))) if folder.exists() else 0


def test_two_kills_lose_nothing(tmp_path, program, environment, make_rings, rings_model):
    here = tmp_path / "here"
    make_rings(here / "data", train=60, val=4)
    (here / "model.safetensors").write_bytes(rings_model().read_bytes())
    for parts in (1, 3):
        process = _start(here, environment, "killed.h5")
        deadline = time.monotonic() + 60
        while _parts(here / "killed.h5") < parts and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert len(_rows(here / "killed.h5")[0]) >= 4 * parts
    _assert_equal_to_undisturbed(here, environment)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_twenty_kills_at_random_moments_lose_nothing(tmp_path, program, environment, make_rings, rings_model, jobs):
    here = tmp_path / "here"
    make_rings(here / "data", train=300, val=4)
    (here / "model.safetensors").write_bytes(rings_model().read_bytes())
    generator = np.random.default_rng(int(jobs))
    started = time.monotonic()
    assert _start(here, environment, "whole.h5", "-j", jobs).wait(300) == 0
    whole = time.monotonic() - started
    killed, rows = 0, 0
    while killed < 20:
        process = _start(here, environment, "killed.h5", "-j", jobs)
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(generator.uniform(0.2, 1.0)) * whole)
        process.kill()
        finished = process.wait() == 0
        killed += not finished
        if (here / "killed.h5").exists():
            found = len(_rows(here / "killed.h5")[0])
            assert found >= rows
            rows = found
        if finished:
            # Done before its turn: another store gets the rest of the kills.
            _assert_equal_to_undisturbed(here, environment, "-j", jobs)
            os.unlink(here / "killed.h5")
            # The machine may be less busy than when the undisturbed run was timed.
            rows, whole = 0, whole * 0.9
    _assert_equal_to_undisturbed(here, environment, "-j", jobs)


def test_interrupted_by_ctrl_c_goes_on(tmp_path, program, environment, make_rings, rings_model):
    here = tmp_path / "here"
    make_rings(here / "data", train=60, val=4)
    (here / "model.safetensors").write_bytes(rings_model().read_bytes())
    process = _start(here, environment, "tiles.h5")
    while not _parts(here / "tiles.h5") and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert not (here / "tiles.h5.lock").exists() and len(_rows(here / "tiles.h5")[0]) >= 4
