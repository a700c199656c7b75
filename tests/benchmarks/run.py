"""Run the benchmarks and keep their figures: RESULTS.json, and RESULTS.md made from it.

    python tests/benchmarks/run.py [--quick] [--only NAME...] [--output DIR]

Each benchmark runs in a process of its own. Figures of those that are not run again stay, with their own date and
machine; those that need a GPU stay open where there is none. `--quick` takes toy sizes, and needs an `--output`, since
such figures mean nothing beyond that all runs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[1]))

from cvgeo.paths import write_text  # noqa: E402
from tests.benchmarks.machine import describe_machine, machine_line  # noqa: E402
from tests.benchmarks.stages import BENCHMARKS, Benchmark, Row  # noqa: E402

JSON, MARKDOWN = "RESULTS.json", "RESULTS.md"
HEAD = """# Benchmarks

Written by `python tests/benchmarks/run.py`. A ratio compares against what a user would otherwise run, or against the
machine's limit, on the same data and cores in the same run. What needs a GPU is measured on one or stays open.
"""


def load_results(path: Path) -> dict[str, Any]:
    """The figures kept so far, by benchmark."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def run_one(benchmark: Benchmark, quick: bool) -> dict[str, Any]:
    """The entry of one benchmark: date, seconds, words, and its record. Raises CalledProcessError where it fails."""
    words = [*benchmark.words, *(benchmark.quick if quick else ())]
    started = time.monotonic()
    command = [sys.executable, str(HERE / f"{benchmark.module}.py"), *words]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    seconds = round(time.monotonic() - started, 1)
    return {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "seconds": seconds, "words": words, "record": record}


def _cells(row: Row, entry: dict[str, Any] | None, machines: list[str]) -> list[str]:
    record = entry and entry["record"]
    value = row.value(record)
    if entry is None or value is None:
        return [row.stage, row.against, "not measured", row.to_reach, "", "", ""]
    met = {True: "yes", False: "no", None: ""}[row.met(record)]
    machine = str(machines.index(machine_line(entry["machine"])) + 1)
    return [row.stage, row.against, f"{value:.3g} {row.unit}".strip(), row.to_reach, met, entry["date"], machine]


def as_markdown(results: dict[str, Any]) -> str:
    """The table of all rows, measured or not, the machines, and each record in full."""
    machines = list(dict.fromkeys(machine_line(entry["machine"]) for entry in results.values()))
    names = ["stage", "measured against", "result", "to reach", "met", "date", "machine"]
    rows = [names, ["---"] * len(names)]
    rows += [_cells(row, results.get(one.name), machines) for one in BENCHMARKS for row in one.rows]
    lines = [HEAD, *("| " + " | ".join(cells) + " |" for cells in rows), "", "Machines:", ""]
    lines += [f"{number}. {line}" for number, line in enumerate(machines, 1)]
    plots = [entry["record"]["plot"] for entry in results.values() if "plot" in entry["record"]]
    lines += [text for plot in plots for text in ("", f"![time and peak memory by the amount of work]({plot})")]
    return "\n".join(lines) + "\n"


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Both files, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / JSON, json.dumps(results, indent=1) + "\n")
    write_text(folder / MARKDOWN, as_markdown(results))


def _hindrance(benchmark: Benchmark, machine: dict[str, Any]) -> str | None:
    """Why a benchmark cannot be run here; its rows keep earlier figures or stay open."""
    if benchmark.device != "cpu" and not machine["gpus"]:
        return "no GPU"
    return None if (HERE / f"{benchmark.module}.py").exists() else f"no {benchmark.module}.py"


def run_all(chosen: list[Benchmark], folder: Path, quick: bool) -> list[str]:
    """Run benchmarks one after the other, writing after each; returns the names of those that failed."""
    machine, results, failed = describe_machine(), load_results(folder / JSON), []
    for benchmark in chosen:
        if hindrance := _hindrance(benchmark, machine):
            print(f"{benchmark.name}: not measured, {hindrance}", file=sys.stderr)
            continue
        try:
            entry = run_one(benchmark, quick)
        except subprocess.CalledProcessError as error:
            print(f"{benchmark.name}: failed with status {error.returncode}", file=sys.stderr)
            failed.append(benchmark.name)
            continue
        if plot := entry["record"].get("plot"):
            made = Path(plot)
            (folder / made.name).write_bytes(made.read_bytes())
            entry["record"]["plot"] = made.name
        results[benchmark.name] = {**entry, "machine": machine, "quick": quick}
        write_results(folder, results)
        print(f"{benchmark.name}: {entry['seconds']} s", file=sys.stderr)
    write_results(folder, results)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for, print the table; the exit status is 1 where a benchmark failed."""
    names = [one.name for one in BENCHMARKS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="toy sizes: does all run?")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of RESULTS.md and RESULTS.json")
    words = parser.parse_args(arguments)
    if words.quick and words.output is None:
        parser.error("--quick needs --output: its figures are not kept beside the real ones")
    folder = words.output or HERE
    chosen = [one for one in BENCHMARKS if words.only is None or one.name in words.only]
    failed = run_all(chosen, folder, words.quick)
    print((folder / MARKDOWN).read_text(encoding="utf-8"), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
