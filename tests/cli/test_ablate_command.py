"""`cvgeo ablate` through the real program, at toy size."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cvgeo.data.schema import Dataset

SMALL = [
    "--recipe=demo",
    "--weights=none",
    "--batch-size=4",
    "--epochs=1",
    "--device=cpu",
    "--jobs=1",
    "--threads=1",
    "--set=model.view.ground_height=16",
    "--set=model.view.ground_width=64",
    "--set=model.view.aerial_height=16",
    "--set=model.view.aerial_width=64",
    "--set=model.backbone_options.width=8",
    "--set=model.aggregator_options.columns=4",
]
ROLLS = ["--vary=train.roll=0,1", "--seeds=2"]
# The paper's models with a small backbone on small pictures: what a test can afford.
TINY_PAPER = [
    "--weights=none",
    "--batch-size=4",
    "--epochs=1",
    "--device=cpu",
    "--jobs=1",
    "--set=model.backbone=resnet18",
    "--set=model.view.ground_height=32",
    "--set=model.view.ground_width=128",
    "--set=model.view.aerial_height=32",
    "--set=model.view.aerial_width=128",
]


@pytest.fixture(scope="module")
def rings(make_rings: Callable[..., Dataset], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rings(tmp_path_factory.mktemp("rings") / "rings").root


def words(rings: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "cvgeo", "ablate", "-d", str(rings), "-o", str(output), *more]


@pytest.fixture
def ablate(rings: Path, environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(output: Path, *more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words(rings, output, *more), capture_output=True, text=True, timeout=600, env=environment)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def records(done: subprocess.CompletedProcess[str]) -> list[dict]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_grid_with_a_failing_cell_then_more_seeds(ablate, tmp_path):
    output = tmp_path / "grid"
    rates = ["--vary=train.learning_rate=0.001,1e30", "--seeds=1"]
    done = ablate(output, *SMALL, *rates)
    assert done.returncode == 5 and "learning_rate=1e+30, seed 0" in done.stderr
    good, failed = records(done)
    assert good["seeds"] == [0] and good["queries"] == 6 and 0 <= good["r@1_low"] <= good["r@1"] <= good["r@1_high"]
    assert failed["seeds"] == [] and "r@1" not in failed
    assert good["tier"] == "own, changed" and good["recipe"] == "demo" and good["model"] == "tiny"
    rows = [[cell.strip() for cell in line.split("|")] for line in (output / "table.md").read_text().splitlines()]
    assert ["learning_rate=1e+30", "own, changed", "0"] in [row[1:4] for row in rows]
    assert "own, changed" in (output / "table.tex").read_text() and "own, changed" in (output / "table.csv").read_text()
    more = ablate(output, *SMALL, rates[0], "--seeds=2")
    assert "1 of 4 cells are done already" in more.stderr
    assert records(more)[0]["seeds"] == [0, 1]
    kept = records(more)[0] | {}
    assert {"table.md", "table.tex", "table.csv", "table.json", "grid.json", "cells"} <= set(os.listdir(output))
    assert json.loads((output / "table.json").read_text())[0]["r@1"] == kept["r@1"]
    other = ablate(output, *SMALL, *ROLLS)
    assert (
        other.returncode == 4 and "holds another grid: grid was" in other.stderr and len(other.stderr.splitlines()) == 1
    )


def test_a_killed_grid_goes_on_with_equal_results(ablate, rings, environment, tmp_path):
    whole = ablate(tmp_path / "whole", *SMALL, *ROLLS)
    assert whole.returncode == 0
    again = tmp_path / "again"
    started = subprocess.Popen(words(rings, again, *SMALL, *ROLLS), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not list(again.glob("cells/*/cell.json")):
        time.sleep(0.01)
    started.send_signal(signal.SIGKILL)
    started.wait()
    assert list(again.glob("cells/*/cell.json"))
    done = ablate(again, *SMALL, *ROLLS)
    assert done.returncode == 0 and "cells are done already" in done.stderr
    assert records(done) == records(whole)
    # Differences stand in the record of the second variant, and agree with the ranks by query.
    shares = []
    for roll in (0, 1):
        ranks = [
            int(row["rank"])
            for path in again.glob(f"cells/roll-{roll}-*/ranks.csv")
            for row in csv.DictReader(path.open())
        ]
        shares.append(sum(rank == 1 for rank in ranks) / len(ranks))
    assert records(done)[1]["difference_r@1"] == pytest.approx(shares[1] - shares[0])


def test_what_cannot_be_built_is_told_before_anything_is_trained(ablate, tmp_path):
    """And a grid whose default recipe was `paper` by name goes on."""
    output = tmp_path / "grid"
    call = [*SMALL[1:], "--vary=model=tiny", "--vary=model.aggregator_options.columns=4,500"]
    done = ablate(output, *call)
    assert done.returncode == 5 and "columns=500, seed 0: columns = 500 of a grid of" in done.stderr
    lines = done.stderr.splitlines()
    assert next(n for n, line in enumerate(lines) if "500" in line) < next(
        n for n, line in enumerate(lines) if "cell 1 of 1" in line
    )
    assert records(done)[0]["recipe"] == "demo" and records(done)[0]["seeds"] == [0] and not records(done)[1]["seeds"]
    grid = json.loads((output / "grid.json").read_text())
    (output / "grid.json").write_text(json.dumps(grid | {"recipe": "paper"}))
    again = ablate(output, *call)
    assert again.returncode == 5 and "1 of 2 cells are done already" in again.stderr


@pytest.mark.slow
def test_cells_at_once_find_the_same(ablate, tmp_path):
    one, two = (ablate(tmp_path / name, *SMALL, *ROLLS, f"--workers={name}") for name in ("1", "2"))
    assert one.returncode == two.returncode == 0
    assert records(one) == records(two)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["4", "5"])
def test_the_papers_tables_on_a_small_world(ablate, environment, tmp_path, table):
    world, data = tmp_path / "world", tmp_path / "data"
    for call in (
        ["world", "--seed", "5", "--size-km", "0.4", "--panoramas", "40", "-o", str(world)],
        [
            "pairs",
            str(world / "panoramas"),
            "--aerial",
            str(world / "ortho.tif"),
            "--test-share",
            "0.4",
            "-o",
            str(data),
        ],
    ):
        subprocess.run(
            [sys.executable, "-m", "cvgeo", "build-dataset", *call], env=environment, capture_output=True, check=True
        )
    command = [sys.executable, "-m", "cvgeo", "ablate", "-d", str(data), "-o", str(tmp_path / "grid")]
    done = subprocess.run(
        [*command, "--table", table, *TINY_PAPER], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    found = records(done)
    assert [one["seeds"] for one in found] == [[0]] * len(found) and len(found) == {"4": 3, "5": 2}[table]
    assert all(one["queries"] >= 5 and one["r@10"] >= one["r@1"] for one in found)
    # Published values are of other data sets: none may stand here.
    assert not any(key.startswith("paper") for one in found for key in one)


@pytest.mark.parametrize(
    ("more", "status", "text"),
    [
        ([], 2, "give either --table or --vary"),
        (["--table=6"], 2, "no table '6'"),
        (["--table=own.toml"], 3, "own.toml"),
        (["--vary=model=cbamm"], 2, "did you mean cbam?"),
        (["--vary=train.rol=0,1"], 2, "did you mean train.roll?"),
        (["--vary=model=tiny", "--reference=cbam"], 2, "no variant 'cbam'"),
    ],
)
def test_bad_calls_are_one_line_before_anything_is_written(ablate, tmp_path, more, status, text):
    done = ablate(tmp_path / "grid", *more)
    assert done.returncode == status and text in done.stderr and len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "grid").exists()
