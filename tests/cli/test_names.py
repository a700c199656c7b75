"""Every command with names that a file may have: blanks, line breaks, letters of any script, bytes that are none."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PLAIN = {
    "space": b"a  b ",
    "non-ascii": "é 東京 ß".encode(),
    "newline": b"a\nb\tc",
    "dash": b"-a",
    "shell": b"$a;'b\"#?[x]%41&{}",
    "bytes": b"b\xe9d",
}
# All at once: in UTF-8, and with a byte that is none.
NAMES = PLAIN | {"any": b"- a\n" + "é東".encode() + b"$;'\"#?[x]%41& ", "any bytes": b'- a\n\xe9"#?[x]% '}
SLOW = ("ablate", "demo", "milvus")
LIGHT = ("polar", "pairs", "tiles", "embed", "index", "heatmap", "info", "log")  # with each of PLAIN alone
FAST = {"any bytes": None, "any": ("polar", "tiles", "index", "heatmap")}  # None: all commands but those of SLOW

# Calls that take and make files called NAME and something; what stands after -- is no option.
AERIAL = "--aerial NAME.tif --tile-metres 20 --tile-size 32"
CALLS = {
    "polar": ["polar -o NAME.made.png --json -- NAME.png", "polar -o NAME-maps --json -- NAME.png"],
    "pairs": [
        f"build-dataset pairs --positions NAME.csv {AERIAL} -o NAME-made",
        f"build-dataset pairs {AERIAL} -o NAME-made2 -- NAME-photos",
        "build-dataset check --all -- NAME-made",
        "info --verify -- NAME-made2",
        "embed -d NAME-made2 --model NAME.safetensors --view ground -o NAME-made.h5",
    ],
    "tiles": [f"build-dataset tiles {AERIAL} -o NAME-made"],
    "area": [f"build-dataset area {AERIAL} --spacing 20 --apart 1 -o NAME-made"],
    "world": ["build-dataset world --size-km 0.3 --panoramas 1 --seed 3 -o NAME-made"],
    "check": ["build-dataset check --all --json -- NAME-data"],
    "train": ["train -d NAME-data --recipe demo --pack-file NAME.pack.h5 -o NAME-run", "info -- NAME-run NAME.pack.h5"],
    "embed": [
        "embed --model NAME.safetensors -o NAME.made.h5 -- NAME.png",
        "embed --model NAME.safetensors -o NAME.made.h5 -- NAME.png NAME-data/pictures/aerial001.png",
        "embed -d NAME-data --model NAME.safetensors -o NAME.made2.h5",
        "info --verify -- NAME.made.h5",
    ],
    "index": ["index -- NAME.h5", "index --check -- NAME.h5", "search --store NAME.h5 --index faiss -- NAME.jpg"],
    "search": [
        "search --store NAME.h5 --sheet NAME.sheet.png --map NAME.html -- NAME.jpg",
        "search --store NAME.h5 --polygon NAME.geojson --map NAME.map.png --ortho NAME.tif -- NAME.jpg",
        "search --store NAME.h5 --format geojson -- NAME-photos",
    ],
    "evaluate": [
        "evaluate -d NAME-data --model NAME.safetensors --store NAME.made.h5 --per-query NAME.made.jsonl",
        "evaluate -d NAME-data --model NAME.safetensors --per-query NAME.made.csv --against NAME.made.jsonl",
        "evaluate -d NAME-data --model NAME.safetensors --against NAME.made.csv",
    ],
    "heatmap": [
        "heatmap --tile NAME.png --model NAME.safetensors --hfov 360 -o NAME.heat.png -- NAME.jpg",
        "heatmap -d NAME-data --model NAME.safetensors -o NAME-heat --geotiff NAME-tifs -- p004",
    ],
    "info": [
        "info --sheet NAME.sheet.png -- NAME-data",
        "info --verify -- NAME.h5 NAME-data NAME.safetensors NAME.jpg NAME.tif",
    ],
    "log": ["polar -o NAME.made.png --json --log-file NAME.log -- NAME.png"],
    "ablate": [
        "ablate -d NAME-data --recipe demo --epochs 1 --batch-size 2 --vary train.roll=0,1 -o NAME-made",
        "info -- NAME-made",
    ],
    "demo": ["demo --panoramas 40 --size-km 0.3 --epochs 1 -- NAME-made"],
    "milvus": ["index --kind milvus --milvus made.db -- NAME.h5", "search --store NAME.h5 --index milvus -- NAME.jpg"],
}
OUTPUTS = ("output", "store", "checkpoint", "world", "file")


def held(done: subprocess.CompletedProcess[bytes], folder: Path, status: int = 0) -> list[dict]:
    """The records of a call that kept to the rules: one line a record, one line a remark, files named as they are."""
    assert done.returncode == status, done.stderr.decode(errors="replace")
    assert all(line.startswith(b"cvgeo: ") for line in done.stderr.splitlines()), done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    for record in records:
        files = record["files"] if isinstance(record.get("files"), list) else []
        for path in [*files, *(record[key] for key in OUTPUTS if isinstance(record.get(key), str))]:
            assert (folder / path).exists(), path
    return records


def left_behind(folder: Path) -> list[str]:
    return [str(one) for one in folder.rglob("*") if one.name.endswith((".part", ".building"))]


def cases() -> Iterator[Any]:
    for name, command in itertools.product(NAMES, CALLS):
        if name in PLAIN and command not in LIGHT:
            continue
        fast = name in FAST and command in (FAST[name] or set(CALLS) - set(SLOW))
        yield pytest.param(NAMES[name], command, marks=() if fast else pytest.mark.slow, id=f"{name}-{command}")


@pytest.mark.parametrize(("name", "command"), list(cases()))
def test_every_name_in_every_command(toys, tmp_path, name, command):
    if command == "milvus":
        pytest.importorskip("milvus_lite")
    here = toys.called(name, tmp_path / "here")
    for line in CALLS[command]:
        held(toys.run(line, name, here), here)
    assert not left_behind(tmp_path) and not list(Path(toys.environment["TMPDIR"]).glob("cvgeo-*"))


class TestNullByte:
    def test_names_of_find_print0(self, toys, tmp_path):
        name = NAMES["any bytes"]
        here = toys.called(name, tmp_path / "here")
        paths = os.fsencode("\0".join(map(str, sorted((here / os.fsdecode(name + b"-photos")).iterdir()))))
        found = held(toys.run("search -0 - --store NAME.h5 -k 1", name, here, input=paths + b"\0"), here)
        assert [os.fsencode(one["query"]) for one in found] == paths.split(b"\0")

    @pytest.mark.parametrize("line", ["polar --json -0 -", "embed -0 - --model m.safetensors -o x.h5"])
    def test_a_pipe_of_find_and_one_of_xargs(self, toys, tmp_path, line):
        folder = tmp_path / "in"
        folder.mkdir()
        names = [b"a\nb.png", b" .png", b"\xff.png", b"-x.png"]
        for name in names:
            shutil.copy(toys.files[".png"], folder / os.fsdecode(name))
        shutil.copy(toys.files[".safetensors"], tmp_path / "m.safetensors")
        found = "find in -name '*.png' ! -name '*.polar.png' -print0"
        for script in (f"{found} | cvgeo {line}", f"{found} | xargs -0 cvgeo {line.replace(' -0 -', '')}"):
            done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=toys.environment, capture_output=True)
            records = held(done, tmp_path)
            inputs = {os.fsencode(one["input"]) for one in records if "input" in one}
            assert inputs == {b"in/" + name for name in names} if "polar" in line else records[0]["rows"] == 4

    def test_it_is_for_stdin(self, toys, tmp_path):
        for line in ("polar -0 a.png", "search --null a.jpg", "embed -0 a.png --model m -o x.h5", "heatmap -0 a.jpg"):
            done = toys.run(line, b"", tmp_path)
            assert done.returncode == 2
            assert (
                done.stderr == b"cvgeo: --null tells how paths are written on stdin, which is not read; name `-` too\n"
            )


def test_lines_of_text_keep_the_bytes_of_a_name(toys, tmp_path):
    """Through stdout, through stdin, and through CSV; a table and stderr show a name on one line."""
    name = b"\xe9\n"
    here = toys.called(name, tmp_path / "here")
    assert toys.run("polar -- NAME.png", name, here).stdout == name + b".polar.png\n"
    found = toys.run("search --store NAME.h5 --format csv -k 1 -- NAME.jpg", name, here)
    assert b'"\xe9\n.jpg",1,' in found.stdout
    missing = toys.run("info -- NAME.none", name, here)
    assert (missing.returncode, missing.stderr.count(b"\n")) == (3, 1)
    assert missing.stderr.startswith(b"cvgeo: \\udce9\\n.none: no such file")
    os.rename(here / os.fsdecode(name + b".png"), here / os.fsdecode(b"\xe9.png"))
    piped = toys.run("polar --json -", b"", here, input=b"\xe9.png\r\n")
    assert os.fsencode(held(piped, here)[0]["input"]) == b"\xe9.png"
