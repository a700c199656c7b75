"""`cvgeo ablate`: variants trained and evaluated alike, with several seeds, into tables and curves.

A cell is one variant with one seed. Its folder is named by a digest of its whole configuration, the data set and the
protocol, so that a stopped grid goes on, a grid with more variants or seeds computes what is new, and no result is ever
taken for another's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import queue
import re
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvgeo.config.grids import Grid, Variant, merged, variant_config
from cvgeo.config.load import DEFAULT_RECIPE, model_tier
from cvgeo.config.schema import Config, to_dict
from cvgeo.data.readers import open_dataset
from cvgeo.errors import CvgeoError, InputError, MismatchError, NoRoomError, UsageError, explain_os_error
from cvgeo.evaluation.comparison import Results
from cvgeo.paths import write_text
from cvgeo.pipelines.embed import EmbedOptions
from cvgeo.pipelines.evaluate import EvaluateOptions, evaluate
from cvgeo.pipelines.train import TRAIN_SPLIT, TrainOptions, check_config, dataset_identity, train
from cvgeo.report import Reporter
from cvgeo.training.composition import check_composition
from cvgeo.training.run_folder import STATE, first_difference

GRID_FILE = "grid.json"
CELLS = "cells"
RESULT = "cell.json"
RANKS = "ranks.csv"
EVALUATION_BATCH = 32


@dataclass(frozen=True)
class AblateSettings:
    """What is compared: `changes` are settings of all variants, under the variants' own.

    `recipe` is that of variants that name none; None: that of each one's model preset. `seeds` are those of the
    training. `split` and `heading_unknown` are the evaluation's.
    """

    dataset: str
    grid: Grid
    output: Path
    model: str | None = None
    recipe: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    split: str | None = None
    heading_unknown: bool = False


@dataclass(frozen=True)
class AblateOptions:
    """How it is carried out. `workers` cells run at once, 0: one a device; `device` may name several, by commas."""

    device: str = "auto"
    workers: int = 0
    training: TrainOptions = field(default_factory=TrainOptions)
    overwrite: bool = False


@dataclass(frozen=True)
class Cell:
    """One variant with one seed, and where its files go."""

    variant: Variant
    seed: int
    config: Config
    settings: AblateSettings
    folder: Path

    @property
    def name(self) -> str:
        """As messages call it."""
        return f"{self.variant.label}, seed {self.seed}"


@dataclass(frozen=True)
class _Done:
    """What a cell has found: its evaluation's record, and the ranks by query."""

    record: dict[str, Any]
    ranks: dict[str, int]


def ablate(settings: AblateSettings, options: AblateOptions, reporter: Reporter) -> list[dict[str, Any]]:
    """Train and evaluate each variant with each seed; write tables and recall curves.

    Returns:
        A record a variant: means and 95 % intervals over seeds, differences to the reference, published values.

    Raises UsageError for variants that make no sense, MismatchError where the output holds another grid. A cell that
    fails is told to the reporter, and the others go on; one whose model cannot be built is told before any is trained.
    """
    reporter.now(f"opening {settings.dataset}")
    identity = dataset_identity(open_dataset(settings.dataset))
    cells = _cells(settings, identity)
    _open(settings, identity, options.overwrite)
    sound = _sound(cells, reporter)
    done = dict(zip([cell.folder for cell in sound], _run(sound, options, reporter), strict=True))
    found = {
        variant.label: {c.seed: one for c in sound if c.variant == variant and (one := done[c.folder]) is not None}
        for variant in settings.grid.variants
    }
    if not any(found.values()):
        return []
    first = next(done.record for seeds in found.values() for done in seeds.values())
    results = Results(
        settings.grid,
        identity["name"],
        {cell.variant.label: _about(cell.config) for cell in cells},
        int(first["gallery"]),
        _aligned(found),
        first.get("protocol"),
        # Published values are of headings known, and never of the training split.
        not settings.heading_unknown and settings.split != TRAIN_SPLIT,
    )
    _write(results, settings.output, reporter)
    return results.records()


def _cells(settings: AblateSettings, identity: dict[str, str]) -> list[Cell]:
    cells = []
    for seed in settings.seeds:
        for variant in settings.grid.variants:
            config = variant_config(variant, settings.model, settings.recipe, settings.changes, seed)
            if not config.train.epochs and (settings.changes.get("model") or variant.changes.get("model")):
                fault = f"{variant.label}: an untrained model is a preset as it is, without changes of model"
                raise UsageError(fault, mend="leave them away or train it")
            protocol = [settings.split, settings.heading_unknown]
            text = json.dumps([to_dict(config), identity, protocol], sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:10]
            slug = re.sub(r"[^a-z0-9]+", "-", variant.label.lower()).strip("-")[:40]
            folder = settings.output / CELLS / f"{slug}-{digest}-seed{seed}"
            cells.append(Cell(variant, seed, config, settings, folder))
    return cells


def _about(config: Config) -> dict[str, str]:
    return {"model": config.model.name, "tier": model_tier(config.model), "recipe": config.train.recipe}


def _sound(cells: Sequence[Cell], reporter: Reporter) -> list[Cell]:
    """The cells whose models and losses can be built; the reporter is told of the others."""
    faults: dict[str, str | None] = {}
    for cell in cells:
        if not (cell.folder / RESULT).exists() and cell.variant.label not in faults:
            faults[cell.variant.label] = _fault(cell.config)
    finished = sum((cell.folder / RESULT).exists() for cell in cells)
    if finished:
        reporter.note(f"{finished} of {len(cells)} cells are done already")
    for cell in cells:
        _tell(cell, faults.get(cell.variant.label), reporter)
    return [cell for cell in cells if faults.get(cell.variant.label) is None]


def _fault(config: Config) -> str | None:
    try:
        # Without epochs nothing is trained: the preset is measured as it is.
        (check_config if config.train.epochs else check_composition)(config)
    except CvgeoError as error:
        return str(error)
    return None


def _open(settings: AblateSettings, identity: dict[str, str], overwrite: bool) -> None:
    """Start or go on with this grid in the output folder. Raises MismatchError where another one is there."""
    path = settings.output / GRID_FILE
    now = {
        "grid": settings.grid.summary,
        "dataset": identity,
        "recipe": settings.recipe,
        "model": settings.model,
        "changes": settings.changes,
        "split": settings.split,
        "heading_unknown": settings.heading_unknown,
    }
    now = json.loads(json.dumps(now))
    if path.exists() and not overwrite:
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if settings.recipe is None and before.get("recipe") == DEFAULT_RECIPE:
                # The default was this one's name once; cells tell their own recipes.
                before["recipe"] = None
            difference = first_difference(before, now)
        except OSError as error:
            raise explain_os_error(error, path, "read") from error
        except (ValueError, AttributeError) as error:
            raise InputError("is damaged", path=path, mend="--overwrite writes it anew") from error
        if difference:
            mend = "-o names another folder, --overwrite replaces the tables"
            raise MismatchError(f"holds another grid: {difference}", path=settings.output, mend=mend)
    elif settings.output.exists() and not overwrite and any(settings.output.iterdir()):
        raise InputError("is there already and holds no grid", path=settings.output, mend="name another place with -o")
    write_text(path, json.dumps(now, indent=2) + "\n")


def _devices(device: str, workers: int) -> list[str]:
    """The device of each worker."""
    if device == "auto" and torch.cuda.device_count() > 1:
        names = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    else:
        names = device.split(",")
    return [names[worker % len(names)] for worker in range(workers or len(names))]


def _run(cells: Sequence[Cell], options: AblateOptions, reporter: Reporter) -> Iterator[_Done | None]:
    """What each cell has found, in order; None for one that failed, which the reporter is told."""
    devices = _devices(options.device, options.workers)
    left = [cell for cell in cells if not (cell.folder / RESULT).exists()]
    if len(devices) == 1 or len(left) < 2:
        for number, cell in enumerate(left, start=1):
            reporter.note(f"cell {number} of {len(left)}: {cell.name}")
            _tell(cell, run_cell(cell, devices[0], options.training, reporter), reporter)
    else:
        _run_at_once(left, devices, options.training, reporter)
    for cell in cells:
        yield _read(cell) if (cell.folder / RESULT).exists() else None


def _tell(cell: Cell, fault: str | None, reporter: Reporter) -> None:
    if fault is not None:
        reporter.fail(cell.name, fault)


_own_device: list[str] = []


def _start_worker(devices: Any) -> None:
    # Ctrl-C reaches every process of the terminal: the parent ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(queue.Empty):
        _own_device.append(devices.get(timeout=60))


def _run_on_own_device(cell: Cell, training: TrainOptions) -> str | None:
    return run_cell(cell, _own_device[0], training, Reporter())


def _run_at_once(cells: Sequence[Cell], devices: list[str], training: TrainOptions, reporter: Reporter) -> None:
    context = multiprocessing.get_context("spawn")
    waiting = context.Queue()
    for device in devices:
        waiting.put(device)
    with ProcessPoolExecutor(len(devices), context, _start_worker, (waiting,)) as pool:
        runs = [pool.submit(_run_on_own_device, cell, training) for cell in cells]
        try:
            for cell, run in zip(cells, reporter.track(runs, "cells", len(runs)), strict=True):
                _tell(cell, run.result(), reporter)
                reporter.note(f"done: {cell.name}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_cell(cell: Cell, device: str, training: TrainOptions, reporter: Reporter) -> str | None:
    """Train and evaluate one cell into its folder; returns the fault as text where it failed.

    Raises NoRoomError, which holds for every cell.
    """
    try:
        _train_and_evaluate(cell, device, training, reporter)
    except NoRoomError:
        raise
    except CvgeoError as error:
        return str(error)
    except torch.OutOfMemoryError as error:
        return f"out of memory on {device}: {str(error).splitlines()[0]}"
    return None


def _train_and_evaluate(cell: Cell, device: str, training: TrainOptions, reporter: Reporter) -> None:
    settings, run = cell.settings, cell.folder / "run"
    trained: dict[str, Any] = {}
    model = cell.config.model.name
    if cell.config.train.epochs:
        trained = train(
            settings.dataset,
            reporter=reporter,
            model=cell.variant.model or settings.model,
            recipe=cell.variant.recipe or settings.recipe,
            changes=merged(merged(settings.changes, cell.variant.changes), {"train": {"seed": cell.seed}}),
            output=str(run),
            options=replace(training, device=device),
        )
        model = trained["checkpoint"]
    records = evaluate(
        settings.dataset,
        reporter=reporter,
        model=model,
        weights=None if cell.config.train.epochs else cell.config.train.weights,
        per_query=cell.folder / RANKS,
        options=EvaluateOptions(settings.split, heading_unknown=settings.heading_unknown),
        embedding=EmbedOptions(EVALUATION_BATCH, device, training.jobs, skip_missing=training.skip_missing),
    )
    result = {"variant": cell.variant.label, "seed": cell.seed, "trained": trained, "evaluated": records[0]}
    write_text(cell.folder / RESULT, json.dumps(result, indent=2) + "\n")
    # The optimiser's state is three times the model and of no use any more.
    (run / STATE).unlink(missing_ok=True)


def _read(cell: Cell) -> _Done:
    path = cell.folder / RESULT
    try:
        record = json.loads(path.read_text(encoding="utf-8"))["evaluated"]
        with open(cell.folder / RANKS, encoding="utf-8", newline="") as handle:
            ranks = {row["query"]: int(row["rank"]) for row in csv.DictReader(handle) if row["scope"] == "overall"}
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (ValueError, LookupError) as error:
        raise InputError("is damaged", path=path, mend="remove it to compute the cell again") from error
    return _Done(record, ranks)


def _aligned(found: dict[str, dict[int, _Done]]) -> dict[str, dict[int, np.ndarray]]:
    """Ranks (Q,) by variant and seed, of the queries that all cells answered, in one order."""
    every = [set(done.ranks) for seeds in found.values() for done in seeds.values()]
    queries = sorted(set.intersection(*every))
    return {
        label: {seed: np.array([done.ranks[query] for query in queries]) for seed, done in seeds.items()}
        for label, seeds in found.items()
    }


def _write(results: Results, folder: Path, reporter: Reporter) -> None:
    for name, text in results.texts().items():
        write_text(folder / name, text)
    try:
        results.plot([folder / f"recall.{kind}" for kind in ("png", "svg")])
    except CvgeoError as error:
        reporter.warn(str(error))
    reporter.note(f"the tables are in {folder}")
