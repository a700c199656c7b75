import csv
import json
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
PAIRS = SHARED / "data" / "real_pairs"
WEIGHTS = SHARED / "weights" / "resnet18_in1k_v1_bnfolded_to_layer3.pth"


def test_records_and_per_query_file(program, tmp_path, make_rings, rings_model):
    make_rings(tmp_path / "here" / "data", train=0, val=6)
    words = ("evaluate", "--dataset", "data", "--model", str(rings_model()), "--per-query", "q.csv", "-j", "1")
    done = program(*words)
    (record,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and record["r@1"] == 1.0 and record["queries"] == 6
    with open(tmp_path / "here" / "q.csv", newline="") as file:
        assert [row["rank"] for row in csv.DictReader(file)] == ["1"] * 6
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["data", "q.csv"]


@pytest.mark.skipif(not (PAIRS.is_dir() and WEIGHTS.is_file()), reason="needs ../shared with real pairs and weights")
def test_zero_shot_on_real_pairs(program):
    words = ("evaluate", "--dataset", str(PAIRS), "--model", "zero_shot", "--weights", str(WEIGHTS), "-j", "1")
    done = program(*words)
    records = {record["scope"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert done.returncode == 0 and records["overall"]["queries"] == records["overall"]["gallery"] == 17
    assert records["overall"]["r@1"] >= 0.7 and records["within sources"]["r@1"] >= 0.8
    assert set(records) == {"overall", "within sources"} | {
        f"within {source}" for source in ("cvusa", "cvact", "london", "cv-cities")
    }
