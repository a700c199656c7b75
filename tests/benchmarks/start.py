"""`cvgeo --help` against an empty Typer program's `--help`.

    python tests/benchmarks/start.py [--quick] [--rounds N]

Prints one JSON line. Both are started as new processes of the same Python in turn; the best of all rounds counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EMPTY = '''import typer

app = typer.Typer()


@app.command()
def main() -> None:
    """Do nothing."""


app()
'''


def seconds_of(words: list[str]) -> float:
    """Seconds from the start of a process to its end."""
    started = time.perf_counter()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def measure(rounds: int) -> dict[str, Any]:
    """The record of so many rounds."""
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.py"
        empty.write_text(EMPTY)
        programs = {
            "cvgeo": [sys.executable, "-m", "cvgeo", "--help"],
            "empty": [sys.executable, str(empty), "--help"],
            "python": [sys.executable, "-c", "pass"],
        }
        best = {name: float("inf") for name in programs}
        for _ in range(rounds):
            for name, words in programs.items():
                best[name] = min(best[name], seconds_of(words))
    milliseconds = {f"{name}_ms": round(1000 * value, 1) for name, value in best.items()}
    return {"rounds": rounds, **milliseconds, "ratio": round(best["cvgeo"] / best["empty"], 3)}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure, print one JSON line, and return its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two rounds only")
    parser.add_argument("--rounds", type=int, default=40)
    words = parser.parse_args(arguments)
    record = measure(2 if words.quick else words.rounds)
    print(json.dumps(record))
    return record


if __name__ == "__main__":
    main()
