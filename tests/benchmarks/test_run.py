"""The runner of the benchmarks, on toy sizes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
WORDS = [sys.executable, str(HERE / "run.py"), "--quick"]


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """The folder of a quick run of two benchmarks, one after the other."""
    folder = tmp_path_factory.mktemp("results")
    for name in ("polar", "start"):
        words = [*WORDS, "--only", name, "--output", str(folder)]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
    return folder


def test_figures_of_an_earlier_run_stay(results):
    kept = json.loads((results / "RESULTS.json").read_text())
    assert set(kept) == {"polar", "start"}
    for entry in kept.values():
        assert len(entry["date"]) == 10 and entry["quick"] and entry["machine"]["cores"] >= 1
    assert kept["polar"]["record"]["largest_difference"] < 1.0
    assert kept["start"]["record"]["ratio"] > 0


def test_the_table_shows_every_row_and_fills_none_by_estimate(results):
    text = (results / "RESULTS.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    cells = {row.split(" | ")[0].removeprefix("| "): row.split(" | ") for row in rows}
    assert cells["embed, GPU"][2] == cells["embed, CPU"][2] == "not measured"
    assert "grey level" in cells["its largest difference, of 255"][2]
    assert cells["its largest difference, of 255"][4] == "yes"
    assert len({row.count(" | ") for row in rows}) == 1


def test_the_machine_is_described_without_its_name(results):
    import socket

    text = (results / "RESULTS.md").read_text() + (results / "RESULTS.json").read_text()
    assert socket.gethostname() not in text and "/tmp" not in text and str(HERE) not in text


def test_quick_figures_are_not_kept_beside_the_real_ones():
    done = subprocess.run(WORDS, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "--output" in done.stderr


def test_names_of_the_table_are_unique():
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.benchmarks.stages import BENCHMARKS

    assert len({one.name for one in BENCHMARKS}) == len(BENCHMARKS)


def test_a_benchmark_that_cannot_run_or_fails_leaves_what_was_measured(tmp_path, monkeypatch, capsys):
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.benchmarks import run
    from tests.benchmarks.stages import Benchmark, Row

    rows = (Row("a stage", "another", "ratio.deep", 2),)
    machine = {"cpu": "c", "cores": 1, "memory_gib": 1, "gpus": [], "system": "s"}
    machine |= dict.fromkeys(("python", "torch", "opencv", "numpy", "h5py"), "1")
    old = {"date": "2020-01-01", "seconds": 1, "words": [], "record": {"ratio": {"deep": 2.5}}, "machine": machine}
    run.write_results(tmp_path, dict.fromkeys(("gpu", "gone", "bad"), old))
    monkeypatch.setattr(run, "describe_machine", lambda: machine)
    benchmarks = [Benchmark("gpu", "start", rows, device="cuda"), Benchmark("gone", "gone", rows)]
    benchmarks.append(Benchmark("bad", "start", rows, ("--no-such-option",)))
    monkeypatch.setattr(run, "BENCHMARKS", benchmarks)
    assert run.run_all(benchmarks, tmp_path, True) == ["bad"]
    assert json.loads((tmp_path / "RESULTS.json").read_text()) == dict.fromkeys(("gpu", "gone", "bad"), old)
    assert (tmp_path / "RESULTS.md").read_text().count("| 2.5 times | at least 2 times | yes | 2020-01-01 | 1 |") == 3
    assert "gpu: not measured, no GPU" in capsys.readouterr().err


def test_bounds_are_read_from_either_side():
    sys.path.insert(0, str(HERE.parents[1]))
    from tests.benchmarks.stages import Row

    fast, small = Row("a", "b", "ratio", 0.9), Row("a", "b", "ratio", 3, False, "MiB")
    assert fast.met({"ratio": 0.9}) and not fast.met({"ratio": 0.89}) and fast.met(None) is None
    assert Row("a", "b", "loss.x", 0.01, False, absolute=True).met({"loss": {"x": -0.02}}) is False
    assert small.met({"ratio": 3.0}) and not small.met({"ratio": 3.1}) and small.to_reach == "at most 3 MiB"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["embed", "growth", "cutting", "loading"])
def test_each_benchmark_runs(tmp_path, name):
    words = [*WORDS, "--only", name, "--output", str(tmp_path)]
    subprocess.run(words, check=True, capture_output=True, timeout=600)
    (entry,) = json.loads((tmp_path / "RESULTS.json").read_text()).values()
    assert entry["record"] and "not measured" in (tmp_path / "RESULTS.md").read_text()
    if name == "growth":
        assert (tmp_path / entry["record"]["plot"]).stat().st_size > 10_000
