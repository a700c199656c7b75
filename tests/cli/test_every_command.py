"""The rules that hold for every command, each command held to them in real shells and pseudo-terminals."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from cvgeo.cli.app import COMMANDS
from tests.cli.terminal import INTERRUPT, SUSPEND, Terminal, in_terminal, plain

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


def real_program(workshop) -> dict[str, str]:
    """The environment in which `cvgeo` is the program started as users start it, in its shell's own session."""
    first, _, rest = workshop.environment["PATH"].partition(os.pathsep)
    assert (Path(first) / "cvgeo").exists()
    return workshop.environment | {"PATH": rest}


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
    """One call each: its reader gone, stdout full, stdin and stdout closed, stdin and stderr closed."""
    script = f"""
        {line(name)} | true; echo left ${{PIPESTATUS[0]}} >&2
        {line(name)} >/dev/full; echo full $? >&2
        {line(name)} <&- >&-; echo mute $? >&2
        {line(name)} <&- 2>&- >/dev/null; echo unheard $? >&2
    """
    done = furnished.shell(script)
    lines = [one for one in done.stderr.splitlines() if not one.startswith("cvgeo: ") or "cannot write" in one]
    full = "cvgeo: standard output: cannot write: no space left on device; free some space or name another folder"
    written = ["left 141", full, "full 1"] if name != "build-dataset check" else ["left 0", "full 0"]
    assert lines == [*written, "mute 0", "unheard 0"]
    assert done.stdout == ""


@each([name for name in NAMES if name != "demo"])
def test_head_and_jq(furnished, line, name):
    """The first record alone is read, and every record is JSON to a program that is not Python."""
    done = furnished.shell(f"{line(name)} | head -1 | jq -e type; echo ${{PIPESTATUS[@]}}")
    *shown, statuses = done.stdout.splitlines()
    assert statuses in ("0 0 0", "141 0 0") or name == "build-dataset check"
    assert shown == ([] if name == "build-dataset check" else ['"object"'])
    assert all(one.startswith("cvgeo: ") for one in done.stderr.splitlines()), done.stderr


@pytest.mark.parametrize("keys", [[INTERRUPT], [INTERRUPT, INTERRUPT], ["TERM"]], ids=["once", "twice", "SIGTERM"])
@each(NAMES)
def test_interrupts(furnished, line, tmp_path, name, keys):
    """Ctrl-C, once and twice, and SIGTERM while it works: one line, the right status, no output that is half there."""
    before, _, call = line(name).rpartition("&& ")
    assert furnished.shell(before.removesuffix("&& ") or "true").returncode == 0
    with Terminal(["bash", "-c", f"exec {call}"], furnished.environment, furnished.folder) as terminal:
        terminal.read(seconds=0.4)
        for key in keys:
            if key == INTERRUPT:
                terminal.type(key)
            else:
                terminal.send(signal.SIGTERM)
        status, text = terminal.finish(30), plain(terminal.text)
    said, expected = ("terminated", 143) if keys == ["TERM"] else ("interrupted", 130)
    if status == 128 - expected and not text.replace("^C", "").strip():
        return  # before the program began, on a busy machine
    assert status in (expected, 0) and "Traceback" not in text, text
    assert status == 0 or text.count(f"cvgeo: {said}") == 1
    if status and name not in ("train", "ablate", "demo", "embed", "index"):  # those leave what is done, to go on from
        for one in tmp_path.iterdir():  # it may have been done, and on its way out
            assert one.name.startswith(".") or furnished.shell(f"cvgeo info --verify '{one}'").returncode == 0


@each([name for name in NAMES if name != "demo"])
def test_suspended_and_continued(furnished, line, name):
    """Ctrl-Z and fg in an interactive shell with job control: it goes on and ends well."""
    shell = ["bash", "--norc", "--noprofile", "-i"]
    with Terminal(shell, real_program(furnished) | {"PS1": "$ "}, furnished.folder) as terminal:
        terminal.type(f"{line(name)} > /dev/null; echo status''$?\n")
        terminal.read(seconds=1.5)
        terminal.type(SUSPEND)
        if terminal.read("Stopped", seconds=2):
            terminal.type("fg; e''cho en''ded$?\n")
            assert terminal.read("ended0", seconds=120), terminal.text
        else:
            assert "status0" in terminal.text or terminal.read("status0"), terminal.text
        assert "Traceback" not in terminal.text


@each([name for name in NAMES if name != "demo"])
def test_a_locale_without_letters(furnished, line, tmp_path, name):
    """The program itself, Python's own way around such a locale off: bytes pass, in words and in what is written."""
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    made = line(name).replace(str(tmp_path), f"{tmp_path}/東京 é")
    (tmp_path / "東京 é").mkdir()
    script = re.sub(r"(\S*東京 é\S*)", r"'\1'", made)
    done = furnished.shell(script, env=real_program(furnished) | variables, text=False, errors=None)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr.decode()
    records = [json.loads(one) for one in done.stdout.splitlines()]
    assert records or name == "build-dataset check"


@each(NAMES)
def test_colour_is_not_forced_into_what_is_piped(furnished, line, name):
    forced = {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1", "GITHUB_ACTIONS": "1", "PY_COLORS": "1"}
    call = f"cvgeo {name} --help; cvgeo {name} --no-such-option" + ("" if name == "demo" else f"; {line(name)}")
    done = furnished.shell(call, env=furnished.environment | forced)
    assert "\x1b" not in done.stdout + done.stderr


@each([name for name in NAMES if name != "demo"])
def test_quiet_is_quiet(furnished, line, name):
    """Before and after the command: nothing on stderr but warnings, the same records."""
    last = line(name)
    for call in (f"{last} --quiet", line(name).replace("cvgeo ", "cvgeo -q ")):
        done = furnished.shell(call)
        assert done.returncode == 0
        assert all(one.startswith("cvgeo: warning: ") for one in done.stderr.splitlines()), done.stderr


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
@each([name for name in NAMES if name != "demo"])
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
