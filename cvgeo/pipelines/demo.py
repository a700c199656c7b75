"""`cvgeo demo`: the whole pipeline on a small procedural world, step by step through the program's own commands."""

from __future__ import annotations

import csv
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cvgeo.errors import CvgeoError, ExitStatus, InputError
from cvgeo.paths import write_text
from cvgeo.report import Reporter


@dataclass
class Step:
    """One command of the demo: its words after `cvgeo`, and the file in the demo's folder that takes its stdout."""

    what: str
    words: list[str]
    output: str | None = None

    def line(self) -> str:
        """The command as a shell line."""
        redirection = "" if self.output is None else f" > {shlex.quote(self.output)}"
        return shlex.join(["cvgeo", *self.words]) + redirection


class StepFailed(CvgeoError):
    """A command of the demo failed; it has said why on stderr."""

    def __init__(self, step: Step, returncode: int):
        super().__init__(f"the demo stopped at `{step.line()}`", mend="mend the cause above and run the demo again")
        self.status = ExitStatus(returncode) if returncode in set(ExitStatus) else ExitStatus.FAILED


def _prepare(
    folder: Path, panoramas: int, size_km: float, epochs: int | None, seed: int, device: str
) -> Iterator[Step]:
    world, data, run, store = (str(folder / name) for name in ("world", "data", "run", "tiles.h5"))
    yield Step(
        f"make a world of {size_km:g} km with {panoramas} panoramas",
        ["build-dataset", "world", "--preset", "aligned", "--seed", str(seed), "--size-km", f"{size_km:g}"]
        + ["--panoramas", str(panoramas), "-o", world],
    )
    yield Step(
        "cut an aerial tile around each panorama",
        ["build-dataset", "pairs", _named(f"{world}/panoramas"), "--aerial", f"{world}/ortho.tif", "-o", data]
        + ["--tile-metres", "60", "--tile-size", "256", "--val-share", "0.06", "--test-share", "0.25"]
        + ["--apart", "10", "--seed", str(seed)],
    )
    yield Step(
        "train a small model from scratch",
        ["train", "--dataset", data, "--recipe", "demo", "--weights", "none", "-o", run]
        + ["--seed", str(seed), "--device", device]
        + ([] if epochs is None else ["--epochs", str(epochs)]),
    )
    yield Step(
        "embed the gallery of held-out tiles",
        ["embed", "--dataset", data, "--split", "test", "--view", "aerial", "--model", run, "-o", store]
        + ["--device", device],
    )
    yield Step(
        "find every held-out panorama",
        ["evaluate", "--dataset", data, "--split", "test", "--model", run, "--store", store, "--device", device]
        + ["--json"],
        str(folder / "evaluation.jsonl"),
    )


def _named(path: str) -> str:
    """A path that no program takes for an option."""
    return f"./{path}" if path.startswith("-") else path


def _search(folder: Path, panorama: Path, device: str) -> Step:
    return Step(
        "locate one held-out panorama",
        [
            "search",
            _named(str(panorama)),
            "--store",
            str(folder / "tiles.h5"),
            "--device",
            device,
            "--format",
            "geojson",
        ]
        + ["--sheet", str(folder / "sheet.png"), "--map", str(folder / "map.png")]
        + ["--ortho", str(folder / "world" / "ortho.tif")],
        str(folder / "result.geojson"),
    )


def _held_out_panorama(data: Path) -> Path:
    """The first panorama of the test split that has a pair."""
    with open(data / "panoramas.csv", newline="", encoding="utf-8", errors="surrogateescape") as table:
        for row in csv.DictReader(table):
            if row["split"] == "test":
                return data / row["path"]
    raise CvgeoError("no panorama of the test split", path=data / "panoramas.csv", mend="ask for more panoramas")


def _run(step: Step, reporter: Reporter) -> float:
    reporter.note(step.what)
    reporter.note(f"$ {step.line()}")
    started = time.monotonic()
    call = [sys.executable, "-m", "cvgeo", *step.words]
    reporter.now(None)
    done = subprocess.run(call, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise StepFailed(step, done.returncode)
    if step.output is not None:
        write_text(step.output, done.stdout.decode(errors="surrogateescape"))
    return time.monotonic() - started


def demo(
    folder: Path,
    reporter: Reporter,
    *,
    panoramas: int,
    size_km: float,
    seed: int,
    device: str,
    epochs: int | None = None,
) -> dict:
    """Build a world, cut pairs, train, embed, evaluate, and locate one held-out panorama.

    Each step is one command of this program, run as a user would run it; a second call over the same folder continues.

    Returns:
        The record shown at the end: recall on the held-out places, the best place found, files, seconds, commands.
        Raises InputError for a file in place of the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("is not a folder", path=folder, mend="name a folder")
    steps, seconds = [], {}
    for step in _prepare(folder, panoramas, size_km, epochs, seed, device):
        seconds[step.words[0] if step.words[0] != "build-dataset" else step.words[1]] = _run(step, reporter)
        steps.append(step)
    step = _search(folder, _held_out_panorama(folder / "data"), device)
    seconds["search"] = _run(step, reporter)
    steps.append(step)
    commands = [step.line() for step in steps]
    write_text(
        folder / "commands.sh", "#!/bin/sh\n# The demo, command by command.\nset -e\n" + "\n".join(commands) + "\n"
    )
    evaluation = json.loads((folder / "evaluation.jsonl").read_text().splitlines()[0])
    best = json.loads((folder / "result.geojson").read_text())["features"][0]["properties"]
    return {"evaluation": evaluation, "best": best, "seconds": seconds, "commands": commands}
