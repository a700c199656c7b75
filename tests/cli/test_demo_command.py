import json
import subprocess
import sys

import pytest


def demo(folder, *options: str) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "cvgeo", "demo", str(folder), *options]
    return subprocess.run(call, capture_output=True, text=True, check=False)


def test_a_failing_step_is_named_and_gives_its_status(tmp_path):
    (tmp_path / "world").write_text("not a folder")
    done = demo(tmp_path, "--panoramas", "40", "--size-km", "0.3")
    assert done.returncode == 3
    last = done.stderr.splitlines()[-1]
    assert "the demo stopped at" in last and "build-dataset world" in last
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_demo_locates_held_out_panoramas(tmp_path):
    folder = tmp_path / "the demo"
    done = demo(folder)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout)
    evaluation = result["evaluation"]
    assert evaluation["queries"] >= 200 and evaluation["gallery"] >= 200
    assert evaluation["r@1"] >= 0.75
    assert evaluation["chance"] <= 0.005
    for name in ("sheet.png", "map.png"):
        assert (folder / name).stat().st_size > 100_000
    features = json.loads((folder / "result.geojson").read_text())["features"]
    assert len(features) == 10 and features[0]["geometry"]["type"] == "Point"
    assert (folder / "commands.sh").read_text().splitlines()[3:] == result["commands"]
    again = demo(folder)
    assert again.returncode == 0
    assert json.loads(again.stdout)["evaluation"] == evaluation
    assert sum(json.loads(again.stdout)["seconds"].values()) < 0.5 * sum(result["seconds"].values())
