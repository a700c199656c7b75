"""`cvgeo demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cvgeo.cli import options
from cvgeo.cli.console import ConsoleReporter, clean, print_line, say, write_records

EXAMPLES = [
    ("cvgeo demo", "the whole pipeline in ./cvgeo-demo: three to five minutes on two cores"),
    ("cvgeo demo tour --panoramas 300 --size-km 0.8 --epochs 4", "a quicker tour; the model stays weak"),
]
FILES = [
    ("DIR/map.png, DIR/sheet.png", "the held-out panorama's place on the imagery; the panorama and its best tiles"),
    ("DIR/result.geojson", "the places found, with positions and scores"),
    ("DIR/evaluation.jsonl", "recall over all held-out panoramas"),
    ("DIR/world, DIR/data, DIR/run, DIR/tiles.h5", "the world, the data set, the trained model, the embedding store"),
    ("DIR/commands.sh", "the commands that made all of it"),
]


def demo(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder that takes everything.")] = Path("cvgeo-demo"),
    panoramas: Annotated[int, typer.Option(min=40, help="Panoramas in the world.")] = 1000,
    size_km: Annotated[float, typer.Option(min=0.3, max=5.0, help="Side of the world in kilometres.")] = 1.5,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of training; the recipe's by default.")] = None,
    seed: options.Seed = 7,
    device: options.Device = "auto",
    format: options.Format = None,
    json: options.Json = False,
    *,
    reporter: ConsoleReporter,
) -> None:
    """The whole pipeline on a small procedural world: build, train, embed, evaluate, locate.

    The world is made by the program, so no data set is needed, and its figures say nothing about real places. A demo
    that was stopped goes on where it was.
    """
    from cvgeo.cli.console import chosen_format
    from cvgeo.pipelines.demo import demo as run_demo

    result = clean(
        run_demo(folder, reporter, panoramas=panoramas, size_km=size_km, seed=seed, device=device, epochs=epochs)
    )
    if chosen_format(format, json) is not options.OutputFormat.TABLE:
        write_records([result], chosen_format(format, json))
        return
    _summary(folder, result)


def _summary(folder: Path, result: dict) -> None:
    evaluation, best = result["evaluation"], result["best"]
    print_line(
        f"\nOn this made world, {evaluation['queries']} held-out panoramas against {evaluation['gallery']} tiles: "
        f"r@1 {evaluation['r@1']:.2f}, r@5 {evaluation['r@5']:.2f} (chance {evaluation['chance']:.4f}).\n"
        f"{Path(best['query']).name} is at {best['lat']:.6f}, {best['lon']:.6f}.\n"
    )
    for name, what in FILES[:2]:
        print_line(f"  {name.replace('DIR', str(folder))}: {what}")
    print_line("\nThe commands that made this:\n")
    for command in result["commands"]:
        print_line(f"  {command}")
    total = sum(result["seconds"].values())
    say(
        f"cvgeo: done in {total:.0f} s: "
        + ", ".join(f"{name} {took:.0f} s" for name, took in result["seconds"].items())
    )
