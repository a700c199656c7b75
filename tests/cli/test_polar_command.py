"""`cvgeo polar` as its users run it, and the pipeline behind it."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from cvgeo.cli import polar as command
from cvgeo.errors import MismatchError, OutputError, UsageError
from cvgeo.geometry import polar_transform
from cvgeo.geometry.polar import CONVENTIONS
from cvgeo.geometry.shapes import REMAP_LIMIT
from cvgeo.pipelines.polar import PolarSettings, in_threads, make_maps, polar_bytes
from cvgeo.report import Reporter

SMALL = ["--height", "10", "--width", "24"]


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (64, 64)) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def pixels_of(source: Path | bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(source) if isinstance(source, bytes) else source).convert("RGB"))


def literal(image: np.ndarray, height: int, width: int, convention: str) -> np.ndarray:
    """The published formulas; the four taps of each pixel are summed one after the other."""
    size = image.shape[0]
    i, j = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angle = 2 * np.pi * j / width
    if convention == "paper":
        row = np.clip(size / 2 - size / 2 * (height - i) / height * np.cos(angle), 0, size - 1)
        col = np.clip(size / 2 + size / 2 * (height - i) / height * np.sin(angle), 0, size - 1)
    else:
        row = size / 2 + size / 2 / height * (height - 1 - i) * np.cos(angle)
        col = size / 2 - size / 2 / height * (height - 1 - i) * np.sin(angle)
    top, left = np.floor(row).astype(int), np.floor(col).astype(int)
    out = np.zeros((height, width, 3))
    for r, c in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        inside = (r >= 0) & (r < size) & (c >= 0) & (c < size)
        weight = inside * (1 - abs(row - r)) * (1 - abs(col - c))
        out += weight[..., None] * image[r.clip(0, size - 1), c.clip(0, size - 1)]
    return out


@pytest.fixture
def here(tmp_path: Path, program) -> Path:
    return tmp_path / "here"


@pytest.mark.parametrize("convention", ["paper", "safa"])
def test_the_map_agrees_with_the_formula_at_every_pixel(program, here, convention):
    picture(here / "tile.png", size=(200, 200))
    done = program("polar", "tile.png", "--convention", convention)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"tile.polar.png\n", b"")
    polar = pixels_of(here / "tile.polar.png")
    assert polar.shape == (112, 616, 3)
    assert np.abs(polar - literal(pixels_of(here / "tile.png"), 112, 616, convention)).max() < 1


def test_heading_and_sizes(program, here):
    tile = pixels_of(picture(here / "tile.png"))
    done = program("polar", "tile.png", "--heading", "-90", "-o", "map.png", *SMALL, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "input": "tile.png",
        "output": "map.png",
        "height": 10,
        "width": 24,
        "convention": "paper",
        "column0_heading": 270.0,
    }
    assert np.array_equal(pixels_of(here / "map.png"), polar_transform(tile, 10, 24, column0_heading=-90))


def test_folders_are_mirrored_and_polar_maps_passed_over(program, here):
    for name in ("in/a.png", "in/b/c.jpg", "in/b/c.polar.png"):
        picture(here / name)
    done = program("polar", "in", "-o", "out", *SMALL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert sorted(done.stdout.decode().split()) == ["out/a.polar.png", "out/b/c.polar.png"]
    done = program("polar", "in", *SMALL)
    assert (done.returncode, done.stdout) == (5, b"in/a.polar.png\n")  # c's place is taken by a file of another origin
    assert b"in/b/c.polar.png: exists" in done.stderr


def test_an_existing_map_is_kept_or_refused_or_made_anew(program, here):
    picture(here / "tile.png")
    assert program("polar", "tile.png", *SMALL).returncode == 0
    first = (here / "tile.polar.png").stat()
    again = program("polar", "tile.png", *SMALL)
    assert (again.returncode, again.stdout) == (0, b"tile.polar.png\n")
    assert (here / "tile.polar.png").stat().st_mtime_ns == first.st_mtime_ns
    other = program("polar", "tile.png", *SMALL, "--convention", "safa")
    assert (other.returncode, other.stdout) == (4, b"")
    assert other.stderr.count(b"\n") == 1
    assert b"tile.polar.png" in other.stderr and b"--overwrite" in other.stderr
    assert (here / "tile.polar.png").stat().st_mtime_ns == first.st_mtime_ns
    anew = program("polar", "tile.png", *SMALL, "--convention", "safa", "--overwrite")
    assert anew.returncode == 0
    assert (here / "tile.polar.png").stat().st_mtime_ns != first.st_mtime_ns


def test_bad_pictures_are_listed_and_the_others_done(program, here):
    picture(here / "good.png")
    whole = picture(here / "x" / "cut.png").read_bytes()
    (here / "cut.png").write_bytes(whole[: len(whole) // 2])
    (here / "text.jpg").write_text("hello")
    (here / "empty.png").write_bytes(b"")
    picture(here / "wide.png", size=(50, 60))
    picture(here / "nearly.png", size=(98, 100))
    (here / "folder").mkdir()
    names = ["good.png", "cut.png", "text.jpg", "empty.png", "wide.png", "nearly.png", "absent.png", "folder"]
    done = program("polar", *names, *SMALL)
    assert done.returncode == 5
    assert sorted(done.stdout.decode().split()) == ["good.polar.png", "nearly.polar.png"]
    lines = done.stderr.decode().splitlines()
    reasons = {
        "cut.png": "truncated",
        "text.jpg": "not a picture",
        "empty.png": "empty",
        "wide.png": "too far from square; crop it to 50x50",
        "absent.png": "no such file",
        "folder": "no pictures",
    }
    for name, reason in reasons.items():
        assert [line for line in lines if line.startswith(f"cvgeo: {name}: ") and reason in line], (name, lines)
    assert lines[-1] == "cvgeo: 2 done, 6 failed"
    assert len(lines) == 7
    assert not list(here.glob(".*.part"))


@pytest.mark.parametrize("name", ["text.jpg", "wide.png", "absent.png", "folder"])
def test_nothing_done_is_status_3(program, here, name):
    (here / "text.jpg").write_text("hello")
    picture(here / "wide.png", size=(50, 60))
    (here / "folder").mkdir()
    done = program("polar", name)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"Traceback" not in done.stderr


def test_an_unwritable_folder_is_status_1(program, here):
    picture(here / "tile.png")
    (here / "file").write_text("")
    done = program("polar", "tile.png", "-o", "file/below")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"name another place" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["tile.png", "--height", "0"],
        ["tile.png", "--width", "40000"],
        ["tile.png", "--convention", "north"],
        ["tile.png", "tile.png", "-o", "one.png"],
        ["tile.png", "-o", "map.jpg"],
        ["tile.png", "-o", "-", "--json"],
        ["tile.png", "tile.png", "-o", "-"],
        [],
    ],
)
def test_calls_that_make_no_sense_are_status_2(program, here, words):
    picture(here / "tile.png")
    done = program("polar", *words)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Traceback" not in done.stderr
    assert [path.name for path in here.iterdir()] == ["tile.png"]


def test_paths_through_stdin(program, here):
    picture(here / "a b.png")
    picture(here / "ü.png")
    done = program("polar", "-", *SMALL, "--json", stdin=None, input="a b.png\n\nü.png\r\n".encode())
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(record["output"] for record in records) == ["a b.polar.png", "ü.polar.png"]


def test_paths_through_stdin_beside_others(program, here):
    picture(here / "a.png")
    picture(here / "b.png")
    done = program("polar", "a.png", "-", *SMALL, "--json", stdin=None, input=b"b.png\n")
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(line)["input"] for line in done.stdout.splitlines()) == ["a.png", "b.png"]


def test_a_picture_through_stdin_and_stdout(program, here):
    tile = picture(here / "tile.png")
    expected = polar_transform(pixels_of(tile), 10, 24)
    for options in ({"stdin": tile.open("rb")}, {"stdin": None, "input": b"tile.png\n"}):
        done = program("polar", "-", "-o", "-", *SMALL, **options)
        assert (done.returncode, done.stderr) == (0, b"")
        assert np.array_equal(pixels_of(done.stdout), expected)
    done = program("polar", "tile.png", "-o", "-", *SMALL)
    assert np.array_equal(pixels_of(done.stdout), expected)
    done = program("polar", "-", "-o", "map.png", *SMALL, stdin=tile.open("rb"))
    assert (done.returncode, done.stdout) == (0, b"map.png\n")
    done = program("polar", "-", *SMALL, stdin=tile.open("rb"))
    assert done.returncode == 2
    assert b"-o FILE.png" in done.stderr
    done = program("polar", "-", "-o", "-")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"standard input: is empty" in done.stderr
    done = program("polar", "-", "-o", "-", stdin=None, input=tile.read_bytes()[:200])
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"stdin: the picture is truncated" in done.stderr


def test_a_writer_may_wait_for_an_answer_before_its_next_path(here, environment):
    for name in ("a.png", "b.png"):
        picture(here / name)
    words = [sys.executable, "-m", "cvgeo", "polar", "-", "-j", "4"]
    with subprocess.Popen(
        words, cwd=here, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        for name in ("a", "b"):
            running.stdin.write(f"{name}.png\n".encode())
            running.stdin.flush()
            assert running.stdout.readline() == f"{name}.polar.png\n".encode()
        running.send_signal(signal.SIGINT)
        running.wait(timeout=30)
        assert running.stderr.read() == b"cvgeo: interrupted\n"
    assert running.returncode == 130


def test_a_reader_that_leaves_is_status_141(here, environment):
    for k in range(12):
        picture(here / f"{k}.png")
    words = [sys.executable, "-m", "cvgeo", "polar", ".", "-o", "out", "-j", "4"]
    with subprocess.Popen(words, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        running.wait(timeout=30)
    assert running.returncode == 141
    for path in (here / "out").iterdir():
        assert pixels_of(path).shape == (112, 616, 3)


def test_odd_kinds_of_pictures(program, here):
    grey = np.random.default_rng(0).integers(0, 65536, (40, 40), dtype=np.uint16)
    Image.fromarray(grey).save(here / "sixteen.png")
    Image.fromarray((grey // 256).astype(np.uint8)).convert("CMYK").save(here / "cmyk.jpg")
    Image.fromarray((grey // 256).astype(np.uint8)).convert("LA").save(here / "alpha.png")
    Image.fromarray((grey // 256).astype(np.uint8)).convert("P").save(here / "palette.png")
    done = program("polar", "sixteen.png", "cmyk.jpg", "alpha.png", "palette.png", *SMALL)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout.split()) == 4


def test_the_command_s_constants_are_the_geometry_s():
    # The command's file must not import numpy, so it repeats them.
    hints = get_type_hints(command.polar)
    assert set(get_args(hints["convention"])) == set(CONVENTIONS)
    assert command.LARGEST == REMAP_LIMIT


def settings(**changes) -> PolarSettings:
    return PolarSettings(**{"height": 10, "width": 24, **changes})


def test_a_full_disk_ends_the_batch_and_leaves_nothing(tmp_path, monkeypatch):
    names = [str(picture(tmp_path / f"{k}.png")) for k in range(5)]

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left"):
        list(make_maps(names, tmp_path / "out", settings(), Reporter(), jobs=2))
    assert not list((tmp_path / "out").iterdir())


def test_many_maps_are_those_made_one_by_one_and_failures_are_told(tmp_path, monkeypatch):
    monkeypatch.setattr("cvgeo.pipelines.polar.MANY", 4)
    monkeypatch.setattr("cvgeo.pipelines.polar.TOGETHER", 3)
    paths = [picture(tmp_path / "in" / f"{k}" / f"{k}.png", seed=k) for k in range(11)]
    paths[3].write_bytes(b"no picture")
    (tmp_path / "out" / "5").parent.mkdir()
    (tmp_path / "out" / "5").write_text("in the way")
    reporter = Reporter()
    made = list(make_maps([str(tmp_path / "in")], tmp_path / "out", settings(), reporter, jobs=2))
    assert len(made) == 9 and {Path(item).name for item, _ in reporter.failures} == {"3.png", "5.png"}
    for record in made:
        assert Path(record["output"]).read_bytes() == polar_bytes(
            Path(record["input"]).read_bytes(), record["input"], settings()
        )
    assert not list((tmp_path / "out").rglob(".*"))
    again = list(make_maps([str(tmp_path / "in")], tmp_path / "out", settings(), Reporter(), jobs=2))
    assert sorted(one["output"] for one in again) == sorted(one["output"] for one in made)


def test_of_many_maps_a_full_disk_leaves_none_half(tmp_path, monkeypatch):
    monkeypatch.setattr("cvgeo.pipelines.polar.MANY", 4)
    names = [str(picture(tmp_path / f"{k}.png")) for k in range(9)]
    written = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if "7.polar" in path.name:
            written(path, data[:10])
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="no space left"):
        list(make_maps(names, tmp_path / "out", settings(), Reporter(), jobs=2))
    assert all(pixels_of(path).shape == (10, 24, 3) for path in (tmp_path / "out").iterdir())
    assert len(list((tmp_path / "out").iterdir())) == 8


def test_a_full_disk_in_the_program_is_one_line_and_status_1(here, environment):
    names = [picture(here / f"{k}.png", size=(400, 400)).name for k in range(6)]
    script = f"""
        import errno, os, sys
        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync = full
        sys.argv = ["cvgeo", "polar", "-j", "4", "-o", "out", *{names!r}]
        from cvgeo.cli.app import run
        run()
    """
    words = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.count(b"\n") == 1
    assert b"no space left on device; free some space" in done.stderr
    assert not list((here / "out").iterdir())


def test_two_pictures_of_one_name_do_not_share_a_map(tmp_path):
    names = [str(picture(tmp_path / "a.png")), str(picture(tmp_path / "a.jpg")), str(tmp_path / "a.png")]
    reporter = Reporter()
    records = list(make_maps(names, None, settings(), reporter, jobs=1))
    assert [record["input"] for record in records] == names[:1]
    ((item, reason),) = reporter.failures
    assert item == names[1]
    assert "would replace that of" in reason


def test_a_picture_is_never_its_own_map(tmp_path):
    tile = picture(tmp_path / "tile.png")
    before = tile.read_bytes()
    reporter = Reporter()
    assert not list(make_maps([str(tile)], tile, settings(), reporter, overwrite=True))
    assert "replace the picture itself" in reporter.failures[0][1]
    assert tile.read_bytes() == before


def test_a_changed_picture_is_noticed(tmp_path):
    tile = picture(tmp_path / "tile.png", seed=0)
    assert len(list(make_maps([str(tile)], None, settings(), Reporter()))) == 1
    picture(tile, seed=1)
    with pytest.raises(MismatchError, match="another picture"):
        list(make_maps([str(tile)], None, settings(), Reporter()))


def test_a_stranger_s_file_is_not_replaced(tmp_path):
    tile = picture(tmp_path / "tile.png")
    (tmp_path / "tile.polar.png").write_text("mine")
    with pytest.raises(MismatchError):
        list(make_maps([str(tile)], None, settings(), Reporter()))
    assert (tmp_path / "tile.polar.png").read_text() == "mine"


def test_with_something_done_refusals_are_failures(tmp_path):
    old, new = picture(tmp_path / "old.png"), picture(tmp_path / "new.png")
    assert len(list(make_maps([str(old)], None, settings(), Reporter()))) == 1
    reporter = Reporter()
    records = list(make_maps([str(old), str(new)], None, settings(width=30), reporter, jobs=1))
    assert [record["input"] for record in records] == [str(new)]
    assert [item for item, _ in reporter.failures] == [str(old)]


def test_one_file_cannot_take_a_folder_s_maps(tmp_path):
    picture(tmp_path / "in" / "a.png")
    with pytest.raises(UsageError, match="many maps"):
        list(make_maps([str(tmp_path / "in")], tmp_path / "out.png", settings(), Reporter()))


def test_threads_do_every_item_once():
    lock, seen = threading.Lock(), []

    def work(item: int) -> int:
        with lock:
            seen.append(item)
        return item * item

    assert sorted(in_threads(work, iter(range(200)), 4)) == [k * k for k in range(200)]
    assert sorted(seen) == list(range(200))


def test_errors_of_threads_and_of_their_source_come_out():
    def work(item: int) -> int:
        if item == 3:
            raise KeyError("three")
        return item

    with pytest.raises(KeyError, match="three"):
        list(in_threads(work, range(10), 2))

    def source():
        yield 1
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        list(in_threads(work, source(), 2))


def test_an_abandoned_run_does_no_more_work():
    seen = []
    results = in_threads(seen.append, iter(range(10**9)), 3)
    next(results)
    results.close()
    count = len(seen)
    threading.Event().wait(0.05)
    assert len(seen) == count
