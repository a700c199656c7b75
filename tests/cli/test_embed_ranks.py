"""`torchrun -m cvgeo embed`, through torchrun."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.cli.test_embed_shards import WORDS, assert_same_rows, embedding, here  # noqa: F401
from tests.training.test_ranks import free_port, process_of_rank

BATCHES = ("--batch-size", "1", "--json")
ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def together(*words: str) -> list[str]:
    """Two processes of the real program."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
    return [*start, "-m", "cvgeo", *words]


@pytest.fixture
def run(here, environment):  # noqa: F811
    """Run `embed` in two processes: (*words) -> what came of it."""

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        settings = {"cwd": here, "env": environment, "capture_output": True, "text": True, "timeout": 300}
        return subprocess.run(together(*WORDS, *BATCHES, *words), **settings)

    return call


@pytest.mark.slow
def test_processes_make_the_store_that_one_makes(run, here, embedding):  # noqa: F811
    done = run("-o", "tiles.h5")
    assert done.returncode == 0, done.stderr
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (record["rows"], record["new"], record["reused"], record["store"]) == (20, 20, 0, "tiles.h5")
    assert sum("from 2 shards" in line for line in done.stderr.splitlines()) == 1
    assert sorted(entry.name for entry in here.iterdir() if "shard" in entry.name) == []
    embedding("whole.h5")
    assert_same_rows(here / "tiles.h5", here / "whole.h5")
    picture = next((here / "data" / "pictures").glob("aerial*.png"))
    picture.write_bytes(b"no picture")
    again = run("-o", "tiles.h5")
    # Told once, by the process that tries it last.
    assert again.returncode != 0 and again.stderr.count(f"{picture.name}: ") == 1, again.stderr
    (record,) = [json.loads(line) for line in again.stdout.splitlines()]
    assert (record["new"], record["reused"], record["failed"]) == (0, 19, 1)


@pytest.mark.slow
def test_a_killed_process_costs_little(run, here, environment, embedding):  # noqa: F811
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    words = together(*WORDS, *BATCHES, "-o", "tiles.h5", "--overwrite")
    with subprocess.Popen(words, cwd=here, env=environment, **quiet) as running:
        parts, deadline = here / "tiles.shard-2-of-2.h5.parts", time.monotonic() + 120
        while not list(parts.glob("part-*.h5")) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.kill(process_of_rank(1, running.pid), signal.SIGKILL)
        assert running.wait(timeout=120) != 0
    again = run("-o", "tiles.h5")
    assert again.returncode == 0, again.stderr
    record = json.loads(again.stdout)
    assert record["rows"] == 20 and record["new"] < 20
    embedding("whole.h5")
    assert_same_rows(here / "tiles.h5", here / "whole.h5")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--dataset", "data", "--shard", "1/2"), "leave --shard away"),
        (("-",), "share no stdin"),
        (("--model", "-", "data"), "share no stdin"),
    ],
)
def test_what_processes_cannot_share(program, here, words, said):  # noqa: F811
    # As one of two processes that torchrun starts; refused before they meet.
    numbers = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"}
    done = program("embed", "--model", "model.safetensors", "-o", "tiles.h5", *words, env=numbers | ADDRESS)
    assert done.returncode == 2 and said in done.stderr.decode(), done.stderr
