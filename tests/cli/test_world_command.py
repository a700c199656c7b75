"""`cvgeo build-dataset world` through the real program."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rasterio

CALL = [sys.executable, "-m", "cvgeo", "build-dataset"]
SMALL = ["--size-km", "0.3", "--panoramas", "5", "--seed", "3"]


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([*CALL, *words], capture_output=True, text=True, check=False)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("world") / "w"
    done = run("world", *SMALL, "-j", "1", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_it_writes_what_it_says(made):
    folder, record = made
    assert record["panoramas"] == 5
    assert sorted(path.name for path in folder.iterdir()) == ["ortho.tif", "panoramas", "truth.csv", "world.toml"]
    with rasterio.open(folder / "ortho.tif") as ortho:
        assert ortho.crs.to_epsg() == 32630
        assert ortho.res == (0.25, 0.25)
        assert ortho.shape == (1200, 1200) and ortho.count == 3
        assert ortho.overviews(1)
        assert ortho.read().std() > 15
        bounds = ortho.bounds
    with open(folder / "truth.csv", newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["file"] for row in rows] == sorted(f"panoramas/{p.name}" for p in (folder / "panoramas").iterdir())
    for row in rows:
        assert bounds.left < float(row["easting"]) < bounds.right
        assert bounds.bottom < float(row["northing"]) < bounds.top
    described = tomllib.loads((folder / "world.toml").read_text())
    assert described["fingerprint"] == record["fingerprint"]
    assert "fictional" in described["note"]


def test_the_same_bytes_with_other_jobs(made, tmp_path):
    folder, _ = made
    done = run("world", *SMALL, "-j", "2", "-o", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    assert digests(tmp_path / "again") == digests(folder)


def test_again_does_nothing_and_a_gap_is_filled(made):
    folder, record = made
    before = digests(folder)
    (folder / "panoramas" / "00002.jpg").unlink()
    done = run("world", *SMALL, "-j", "1", "-o", str(folder))
    assert done.returncode == 0 and json.loads(done.stdout) == record
    assert digests(folder) == before
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*/*.jpg")}
    assert "already" in run("world", *SMALL, "-o", str(folder)).stderr
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*/*.jpg")} == times


def test_other_settings_are_refused(made):
    folder, _ = made
    done = run("world", *SMALL[:-1], "4", "-o", str(folder))
    assert done.returncode == 4
    assert str(folder) in done.stderr and "--overwrite" in done.stderr and "Traceback" not in done.stderr


def test_overwrite_starts_again(made, tmp_path):
    folder = tmp_path / "w"
    assert run("world", "--size-km", "0.3", "--panoramas", "2", "-o", str(folder)).returncode == 0
    done = run("world", "--size-km", "0.3", "--panoramas", "1", "--overwrite", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "panoramas").iterdir())) == 1


def test_foreign_files_are_not_touched(tmp_path):
    (tmp_path / "ortho.tif").write_text("mine")
    done = run("world", *SMALL, "-o", str(tmp_path))
    assert done.returncode == 4
    assert (tmp_path / "ortho.tif").read_text() == "mine"


@pytest.mark.parametrize(
    "words, status, says",
    [
        (["--size-km", "0", "-o", "OUT"], 2, "--size-km"),
        (["--preset", "moon", "-o", "OUT"], 2, "aligned"),
        (["--size-km", "0.3", "--panoramas", "100000", "-o", "OUT"], 2, "--panoramas"),
        (["--size-km", "0.3", "-o", "FILE/below"], 1, "FILE"),
        (["--size-km", "0.3", "-o", "FILE"], 3, "not a folder"),
    ],
)
def test_bad_calls(words, status, says, tmp_path):
    (tmp_path / "FILE").write_text("a file")
    words = [str(tmp_path / word) if word.startswith(("OUT", "FILE")) else word for word in words]
    done = run("world", *words)
    assert done.returncode == status, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "OUT").exists()


def test_pairs_reads_it_as_real_imagery(made, tmp_path):
    folder, _ = made
    done = run("pairs", str(folder / "panoramas"), "--aerial", str(folder / "ortho.tif"), "-o", str(tmp_path / "p"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["panoramas"] >= 1
    assert not json.loads(done.stdout)["dropped"].keys() - {"near"}
