"""`-`: stdin and stdout where a command can read and write a stream, and one line that says so where it cannot."""

from __future__ import annotations

import importlib
import json
import subprocess

import pytest

from cvgeo.cli import app
from cvgeo.cli.pages import Page, Parameter
from cvgeo.cli.stdin import check_streams
from cvgeo.errors import UsageError

DATA = '{"dataset": "a-data"}\n'
# Calls that read stdin, what stands there, and what of it comes out.
READ = {
    "polar": ("polar - --json", "a.png\n", "input", "a.png"),
    "build-dataset pairs": (
        "build-dataset pairs - --aerial a.tif --tile-metres 20 --tile-size 32 -o made",
        "a-photos/a0.jpg\na-photos/a1.jpg\na-photos/a2.jpg\n",
        "panoramas",
        3,
    ),
    "build-dataset check": ("build-dataset check - --labels-only", DATA, None, None),
    "train": ("train -d - --recipe demo -o run", DATA, "checkpoint", "run/best.safetensors"),
    "embed": ("embed - --model a.safetensors -o x.h5", "a.png\n", "rows", 1),
    "embed -d": ("embed -d - --model a.safetensors -o x.h5", DATA, "rows", 6),
    "embed --model": ("embed a.png --model - -o x.h5", '{"checkpoint": "a.safetensors"}', "rows", 1),
    "index": ("index -", '{"store": "a.h5"}', "store", "a.h5"),
    "search": ("search - --store a.h5 -k 1", "a.jpg\n", "query", "a.jpg"),
    "search --store": ("search a.jpg --store - -k 1", '{"store": "a.h5"}', "query", "a.jpg"),
    "evaluate": ("evaluate -d - --model a.safetensors", DATA, "queries", 2),
    "evaluate --model": ("evaluate -d a-data --model -", "a.safetensors\n", "queries", 2),
    "ablate": (
        "ablate -d - --recipe demo --epochs 1 --batch-size 2 --vary train.roll=0,1 -o made",
        DATA,
        "queries",
        2,
    ),
    "heatmap": ("heatmap - --tile a.png --model a.safetensors --hfov 360 -o x.png", "a.jpg\n", "query", "a.jpg"),
    "heatmap -d": ("heatmap p004 -d - --model a.safetensors -o made", DATA, "query", "p004"),
    "info": ("info -", "a.h5\na-data\n", "file", "a.h5"),
}
WRITTEN = {
    "build-dataset tiles": "build-dataset tiles --aerial a.tif -o -",
    "build-dataset world": "build-dataset world -o -",
    "train": "train -d a-data -o -",
    "embed": "embed a.png --model a.safetensors -o -",
    "search": "search a.jpg --store a.h5 --map -",
    "evaluate": "evaluate -d a-data --model a.safetensors --per-query -",
    "ablate": "ablate -d a-data --table small -o -",
    "heatmap": "heatmap a.jpg --tile a.png --model a.safetensors -o -",
    "info": "info a-data --sheet -",
    "demo": "demo -",
    "models": "models --log-file -",
}


@pytest.fixture
def here(toys, tmp_path):
    return toys.called(b"a", tmp_path / "here")


def leaves(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (leaves(child) if child.commands else [child])]


PAGES = leaves(app.program_page())
MODULES = {name: importlib.import_module(f"cvgeo.cli.{path}") for name, path, _ in app.COMMANDS}


def streams(page: Page) -> tuple[tuple[str, ...], tuple[str, ...]]:
    module = MODULES[page.name]
    return getattr(module, "STDIN", ()), getattr(module, "STDOUT", ())


def is_file(parameter: Parameter) -> bool:
    return bool({"file", "folder", "store"} & set(parameter.offered))


@pytest.mark.parametrize("name", READ)
def test_stdin(toys, here, name):
    line, given, key, value = READ[name]
    done = toys.run(line, b"", here, input=given.encode())
    assert done.returncode == 0, done.stderr
    records = [json.loads(one) for one in done.stdout.splitlines()]
    assert key is None or key in records[0]
    assert value is None or records[0][key] == value


def test_every_command_that_reads_stdin_is_shown():
    assert {page.name for page in PAGES if streams(page)[0]} == {name.partition(" -")[0] for name in READ}
    assert {page.name for page in PAGES if streams(page)[1]} == {"polar"}


def test_a_picture_through_polar(toys, here):
    picture = (here / "a.png").read_bytes()
    done = toys.run("polar - -o -", b"", here, input=picture)
    assert done.returncode == 0 and done.stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_no_stream_is_not_written_to_stdout(toys, here, name):
    before = sorted(here.rglob("*"))
    done = toys.run(WRITTEN[name], b"", here)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.count(b"\n") == 1 and b"cannot be `-`: it is not read or written as a stream" in done.stderr
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_is_a_stream_or_refused(page):
    read, written = streams(page)
    assert {*read, *written} <= {one.key for one in page.parameters}
    for one in page.parameters:
        given = {one.key: ["-"] if one.repeatable else "-"}
        if is_file(one) and one.key not in (*read, *written):
            with pytest.raises(UsageError, match="cannot be `-`"):
                check_streams(page, given, read, written)
        else:
            check_streams(page, given, read, written)
        if one.key in (*read, *written):
            assert "`-`" in one.help or "- " in one.help, f"{one.names} says that it takes -"


@pytest.mark.parametrize(
    ("line", "both"),
    [
        ("search - --store -", "PICTURE|FOLDER... and --store"),
        ("evaluate -d - --model -", "--dataset and --model"),
        ("embed - --model - -o x.h5", "--model and PICTURE|FOLDER"),
        ("heatmap - -d - --model a.safetensors", "PICTURE|FOLDER... and --dataset"),
    ],
)
def test_stdin_gives_one_thing(toys, here, line, both):
    done = toys.run(line, b"", here, input=b"a\n")
    assert done.returncode == 2 and f"stdin cannot give both {both}".replace("...", "").encode() in done.stderr


def test_pipes_of_several_commands(toys, here):
    line = """
        set -o pipefail
        cvgeo build-dataset pairs a-photos --aerial a.tif --tile-metres 20 --tile-size 32 -o made |
            cvgeo embed -d - --model a.safetensors --allow-mismatch -o x.h5 |
            cvgeo search --store - a.jpg --allow-mismatch |
            jq -r 'select(.rank == 1) | .query' | xargs cvgeo info | jq -r .kind
        printf '%s\\n' a-photos/*.jpg | cvgeo search --store a.h5 -k 2 - | jq -r .query | sort -u | cvgeo info - | wc -l
        ls a-photos/*.jpg | xargs cvgeo polar --json 2>/dev/null; echo $?
    """
    settings = {"cwd": here, "env": toys.environment, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(["bash", "-c", line], **settings)
    assert done.stdout.split() == ["picture", "3", "123"], done.stderr
