"""The rules that hold for every command, each command held to them in real shells and pseudo-terminals."""

from __future__ import annotations

import json
import re

import pytest

from cvgeo.cli.app import COMMANDS
from tests.cli.terminal import in_terminal, plain

pytestmark = pytest.mark.slow  # fifteen commands, each called many times

NAMES = [name for name, _, _ in COMMANDS]
# A call of each command that takes toys and gives records (a check of sound data none); OUT is new in each call.
CALLS = {
    "polar": "cvgeo polar tile.png -o OUT.png --json",
    "build-dataset pairs": "cvgeo build-dataset pairs panoramas --aerial ortho.tif --tile-metres 30 -o OUT",
    "build-dataset tiles": "cvgeo build-dataset tiles --aerial ortho.tif --tile-metres 100 --tile-size 32 -o OUT",
    "build-dataset area": "cvgeo build-dataset area --aerial ortho.tif --tile-metres 30 --spacing 40 -o OUT",
    "build-dataset world": "cvgeo build-dataset world --size-km 0.3 --panoramas 1 --seed 3 -o OUT",
    "build-dataset check": "cvgeo build-dataset check data --all",
    "train": "cvgeo train -d data --recipe demo -o OUT",
    "embed": "cvgeo embed tile.png --model runs/small -o OUT.h5",
    "index": "cp tiles.h5 OUT.h5 && cvgeo index OUT.h5",
    "search": "cvgeo search pano.jpg --store tiles.h5",
    "evaluate": "cvgeo evaluate -d data --model runs/small",
    "ablate": "cvgeo ablate -d data --recipe demo --epochs 1 --batch-size 2 --vary train.roll=0,1 -o OUT",
    "heatmap": "cvgeo heatmap pano.jpg --tile tile.png --model runs/small --hfov 360 -o OUT.png",
    "models": "cvgeo models tiny",
    "info": "cvgeo info tiles.h5 data",
    "config": "cvgeo config polar",
    "demo": "cvgeo demo OUT --panoramas 40 --size-km 0.3 --epochs 1",
}
TABLES = [name for name in NAMES if name not in ("demo", "polar", "build-dataset check")]


def each(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


@pytest.fixture
def line(furnished, tmp_path):
    """A function (name, more): the command's call with a new output."""
    made = []

    def write(name: str) -> str:
        made.append(name)
        return CALLS[name].replace("OUT", str(tmp_path / f"out{len(made)}"))

    return write


def shown(workshop, line: str, columns: int = 80, **variables: str) -> tuple[int, str]:
    """Run a line in a terminal; its status and all that it showed."""
    return in_terminal(["bash", "-c", line], workshop.environment | variables, workshop.folder, columns)


def test_every_command_has_a_call():
    assert set(CALLS) == set(NAMES)


@each(NAMES)
def test_records_go_to_stdout_and_all_else_to_stderr(furnished, line, name):
    done = furnished.shell(line(name))
    assert done.returncode == 0, done.stderr
    records = [json.loads(one) for one in done.stdout.splitlines()]
    assert (records or name == "build-dataset check") and all(isinstance(one, dict) for one in records)
    assert "\x1b" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert all(one.startswith("cvgeo: ") for one in done.stderr.splitlines()), done.stderr


@each([name for name in NAMES if name != "demo"])  # minutes, and made of the others
def test_streams_that_are_closed_full_or_left(furnished, line, name):
    """One call each: its reader gone, stdout full, stdin closed, stdout closed."""
    script = f"""
        {line(name)} | true; echo left ${{PIPESTATUS[0]}} >&2
        {line(name)} >/dev/full; echo full $? >&2
        {line(name)} <&- >/dev/null; echo unfed $? >&2
        {line(name)} >&-; echo mute $? >&2
    """
    done = furnished.shell(script)
    lines = [one for one in done.stderr.splitlines() if not one.startswith("cvgeo: ") or "cannot write" in one]
    full = "cvgeo: standard output: cannot write: no space left on device; free some space or name another folder"
    written = ["left 141", full, "full 1"] if name != "build-dataset check" else ["left 0", "full 0"]
    assert lines == [*written, "unfed 0", "mute 0"]
    assert done.stdout == ""


@pytest.mark.parametrize("columns", [40, 20])
@each(TABLES)
def test_tables_in_narrow_terminals(furnished, line, name, columns):
    status, text = shown(furnished, f"{line(name)} 2>/dev/null", columns)
    lines = plain(text).splitlines()
    assert status == 0, text
    assert len(lines) >= 1
    if name not in ("embed", "info"):
        assert max(map(len, lines)) <= max(columns, 40), text


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@each(TABLES)
def test_nothing_is_dressed_where_that_is_not_wanted(furnished, line, name, variables):
    status, text = shown(furnished, line(name), **variables)
    assert status == 0, text
    coloured = [one for one in re.findall(r"\x1b\[([0-9;]*)m", text) if one not in ("", "0", "1", "2")]
    assert not coloured if "NO_COLOR" in variables else "\x1b" not in text


@each(NAMES)
def test_help_in_narrow_terminals(furnished, name):
    status, text = shown(furnished, f"cvgeo {name} --help", 40, NO_COLOR="1")
    assert status == 0 and "\x1b" not in text
    words = [one for one in text.splitlines() if not one.startswith("  $ ")]
    assert max(map(len, words)) <= 40, max(words, key=len)
