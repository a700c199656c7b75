"""`embed --shard` and `embed --prune`, through the program."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from cvgeo.errors import InputError, MismatchError, OutputError
from cvgeo.pipelines.embed import EmbedOptions, embed, prune
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, writing
from cvgeo.retrieval.shards import Shard, take_shards


@pytest.fixture
def here(tmp_path, program, make_rings, rings_model):
    folder = tmp_path / "here"
    make_rings(folder / "data", train=16, val=4)
    (folder / "model.safetensors").write_bytes(rings_model().read_bytes())
    return folder


WORDS = ("embed", "--dataset", "data", "--model", "model.safetensors", "-j", "1", "--device", "cpu", "--part-rows", "2")


def rows_of(path):
    with EmbeddingStore(path) as store:
        order = np.argsort(store.columns.id)
        columns = store.columns.take(order)
        return columns.id, columns.path, store.fetch(order)


def assert_same_rows(one, other):
    (ids, paths, vectors), (other_ids, other_paths, other_vectors) = rows_of(one), rows_of(other)
    assert ids == other_ids and paths == other_paths
    # Other batches: the last bit of float16 may differ.
    np.testing.assert_allclose(vectors, other_vectors, atol=1e-4)


@pytest.fixture
def embedding(here, monkeypatch, tmp_path):
    """Embed in this process: (names or none for the data set, store, reporter, **options) -> record."""
    monkeypatch.chdir(here)
    monkeypatch.setenv("CVGEO_STATE", str(tmp_path / "state"))

    def call(store="tiles.h5", names=(), reporter=None, **options):
        given = {"dataset": None if names else "data", "model": "model.safetensors"}
        settings = EmbedOptions(device="cpu", jobs=1, part_rows=2, **options)
        return embed(list(names), Path(store), reporter=reporter or Reporter(), options=settings, **given)

    return call


def test_shards_joined_are_the_store_made_at_once_even_after_kills(program, here, environment, embedding):
    for number in (1, 3):
        assert embedding(shard=Shard(3, number))["store"] == f"tiles.shard-{number}-of-3.h5"
    assert not (here / "tiles.h5").exists()
    # The second shard is killed when it has a part; what it did is kept, the rest is computed when joining.
    start = [sys.executable, "-m", "cvgeo", *WORDS, "--batch-size", "1", "-o", "tiles.h5", "--shard", "2/3"]
    quiet = subprocess.DEVNULL
    killed = subprocess.Popen(start, cwd=here, env=environment, stdout=quiet, stderr=quiet)
    parts, deadline = here / "tiles.shard-2-of-3.h5.parts", time.monotonic() + 60
    while not list(parts.glob("part-*.h5")) and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    joined = program(*WORDS, "-o", "tiles.h5")
    record = json.loads(joined.stdout)
    assert joined.returncode == 0 and record["rows"] == 20 and record["new"] < 7 and record["reused"] >= 13
    assert "from 3 shards" in joined.stderr.decode()
    assert sorted(entry.name for entry in here.iterdir() if "shard" in entry.name) == []
    embedding("whole.h5")
    assert_same_rows(here / "tiles.h5", here / "whole.h5")


class Told(Reporter):
    """Keeps the notes."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_absent_shards_are_told_and_the_call_can_be_repeated(embedding):
    embedding(shard=Shard(40, 2))
    # More shards than pictures: the last ones have none, which is no failure.
    assert embedding(shard=Shard(40, 40))["rows"] == 0
    told = Told()
    assert embedding(reporter=told)["reused"] == 1 and "no shard 1/40, 3/40" in told.notes[0]
    again = embedding()
    assert (again["new"], again["reused"]) == (0, 20)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shard", "0/3"), "counts from 1"),
        (("--shard", "4/3"), "counts from 1"),
        (("--shard", "half"), "give I/N"),
        (("--shard", "1/3", "--prune"), "whole store"),
    ],
)
def test_shards_that_are_none(program, here, words, said):
    done = program(*WORDS, "-o", "tiles.h5", *words)
    assert done.returncode == 2 and said in done.stderr.decode() and len(done.stderr.splitlines()) == 1


def test_rows_of_vanished_pictures_are_pruned_on_demand(program, here, embedding):
    (here / "tiles").mkdir()
    for path in (here / "data" / "pictures").glob("aerial*.png"):
        path.rename(here / "tiles" / path.name)
    assert embedding(names=["tiles"])["rows"] == 20
    kept = rows_of(here / "tiles.h5")
    for number in range(3):
        (here / "tiles" / f"aerial00{number}.png").unlink()
    done = program("embed", "tiles", "--model", "model.safetensors", "-o", "tiles.h5", "-j", "1", "--prune")
    record = json.loads(done.stdout)
    assert (record["rows"], record["pruned"], record["reused"]) == (17, 3, 17) and "3 pruned" in done.stderr.decode()
    for left, right in zip(rows_of(here / "tiles.h5"), kept, strict=True):
        np.testing.assert_array_equal(left, right[3:])


def test_where_no_picture_is_there_nothing_is_pruned(tmp_path):
    path, header = tmp_path / "tiles.h5", StoreHeader("f" * 64, 4, "aerial")
    with writing(path, header) as writer:
        writer.add(StoreRows.of(["a", "b"], np.eye(2, 4), ["gone/a.png", "gone/b.png"]))
        with pytest.raises(InputError, match="not one of its pictures is there"):
            prune(writer, path)
    assert rows_of(path)[0] == ["a", "b"]


def test_a_shard_of_another_model_or_one_being_written_is_refused(tmp_path):
    path, header = tmp_path / "tiles.h5", StoreHeader("f" * 64, 4, "aerial")
    shard = Shard(2, 1).path(path)
    with writing(shard, StoreHeader("e" * 64, 4, "aerial")) as writer:
        writer.add(StoreRows.of(["a"], np.eye(1, 4)))
        with writing(path, header) as other, pytest.raises(OutputError, match="writing it"):
            take_shards(other)
    with writing(path, header) as writer, pytest.raises(MismatchError, match="another model"):
        take_shards(writer)
    assert shard.exists()


def test_a_joining_that_was_killed_can_be_repeated(tmp_path, monkeypatch):
    path, header = tmp_path / "tiles.h5", StoreHeader("f" * 64, 4, "aerial")
    for number in (1, 2):
        with writing(Shard(2, number).path(path), header) as writer:
            writer.add(StoreRows.of([f"a{number}", f"b{number}"], np.eye(4)[[number, number + 1]], size=[1, 2]))
    removed = []

    def killed(shard):
        removed.append(shard)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, writing(path, header) as writer:
        patched.setattr("cvgeo.retrieval.shards.remove_store", killed)
        with pytest.raises(KeyboardInterrupt):
            take_shards(writer)
    assert removed == [Shard(2, 1).path(path)] and rows_of(path)[0] == ["a1", "b1"]
    with writing(path, header) as writer:
        assert take_shards(writer) == 2  # of the second one; those of the first are there
    assert rows_of(path)[0] == ["a1", "a2", "b1", "b2"] and sorted(tmp_path.glob("*.h5")) == [path]
    np.testing.assert_array_equal(rows_of(path)[2], np.eye(4)[[1, 2, 2, 3]])


def test_shards_of_8_bits_are_the_store_made_at_once(here, embedding):
    embedding("half.h5")
    assert embedding("whole.h5", storage="int8")["storage"] == "int8"
    for number in (1, 2):
        embedding(shard=Shard(2, number), storage="int8")
    with pytest.raises(MismatchError, match=r"shard-1-of-2.*a shard of int8 numbers, not half"):
        embedding(storage="half")
    assert not (here / "tiles.h5").exists()
    record = embedding()
    assert (record["new"], record["storage"]) == (0, "int8")
    assert_same_rows(here / "tiles.h5", here / "whole.h5")
    with EmbeddingStore(here / "half.h5") as half, EmbeddingStore(here / "tiles.h5") as store:
        assert store.header.storage == "int8" and half.header.storage == "half"
        ids = {id: row for row, id in enumerate(store.columns.id)}
        rows = store.fetch(np.array([ids[id] for id in half.columns.id]))
        expected = half.fetch(np.arange(len(half)))
        assert 0 < np.abs(rows - expected).max() <= np.abs(expected).max() * 0.006


def test_moved_pictures_and_pruning_keep_the_8_bits(here, embedding):
    embedding("x.h5", storage="int8")
    with EmbeddingStore(here / "x.h5") as store:
        before, ids = store.stored(np.arange(len(store))), list(store.columns.id)
    for picture in (here / "data" / "pictures").iterdir():
        picture.touch()
    assert embedding("x.h5")["reused"] == 20
    with EmbeddingStore(here / "x.h5") as store:
        order = np.array([list(store.columns.id).index(id) for id in ids])
        for one, other in zip(store.stored(order), before, strict=True):
            np.testing.assert_array_equal(one, other)
        assert store.verify() == []
    with pytest.raises(MismatchError, match="holds int8 numbers, not half"):
        embedding("x.h5", storage="half")
    assert embedding("x.h5", storage="half", overwrite=True)["storage"] == "half"


@pytest.mark.slow
def test_a_store_of_8_bits_through_the_program(program, here):
    done = program(*WORDS, "-o", "tiles.h5", "--storage", "int8")
    assert done.returncode == 0 and json.loads(done.stdout)["storage"] == "int8"
    described = program("info", "tiles.h5", "--verify", "--json")
    assert described.returncode == 0
    assert (json.loads(described.stdout)["storage"], json.loads(described.stdout)["verified"]) == ("int8", True)
    refused = program(*WORDS, "-o", "tiles.h5", "--storage", "half")
    assert refused.returncode == 4 and b"holds int8 numbers, not half" in refused.stderr
    found = program("search", "data/pictures/ground003.png", "--store", "tiles.h5", "--json")
    assert found.returncode == 0 and len(found.stdout.splitlines()) == 5
    words = ("evaluate", "--dataset", "data", "--model", "model.safetensors", "-j", "1", "--device", "cpu", "--json")
    kept, made = (program(*words, *more) for more in (("--store", "tiles.h5"), ()))
    assert kept.returncode == made.returncode == 0
    assert json.loads(kept.stdout)["r@5"] == pytest.approx(json.loads(made.stdout)["r@5"], abs=0.26)
