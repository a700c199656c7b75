"""`cvgeo train`: a data set and a configuration in, a run folder with checkpoints out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cvgeo.config.load import resolve
from cvgeo.config.schema import Config, ModelConfig, TrainConfig, from_dict, to_dict
from cvgeo.data.conventions import conventions_of, warn_of_unknown_views
from cvgeo.data.loader import PairLoader, cores, dataset_fingerprint
from cvgeo.data.missing import without_missing
from cvgeo.data.pack import Pack
from cvgeo.data.readers import open_dataset, split_variant
from cvgeo.data.samplers import UniquePlaceBatches
from cvgeo.data.schema import EVERY_SPLIT, POSITIVE, SEMI_POSITIVE, Dataset, Pairs
from cvgeo.errors import CvgeoError, InputError, MismatchError, UsageError
from cvgeo.evaluation.metrics import one_percent, recall_at
from cvgeo.losses.pairs import OFFSET, SAID, SEMI_AERIAL
from cvgeo.models import Embedder, build, build_embedder
from cvgeo.models.device import choose_device
from cvgeo.paths import file_sha256
from cvgeo.pipelines.pack import ready_pack
from cvgeo.report import Reporter
from cvgeo.retrieval.exact import ArrayGallery, ranks
from cvgeo.retrieval.lock import writer_lock
from cvgeo.training.composition import check_composition
from cvgeo.training.neighbours import GEOGRAPHIC, SAMPLINGS, HardSampling, embed_all, places
from cvgeo.training.ranks import Ranks, is_first, is_restarted, joined, own_device, synchronised
from cvgeo.training.run_folder import Progress, RunFolder
from cvgeo.training.schedule import check_schedule
from cvgeo.training.trainer import Trainer, Validate

TRAIN_SPLIT = "train"
VALIDATION_SPLIT = "val"


@dataclass
class TrainOptions:
    """How a run is carried out; none but `skip_missing` changes what is learned.

    `memory` is how many bytes of decoded views are held, `threads` 0 leaves torch's number. `pack` reads the views from
    a pack, `pack_file` or one in the cache folder, that is made where it is not there.
    """

    device: str = "auto"
    jobs: int = 0
    threads: int = 0
    memory: int = 4 << 30
    save_seconds: float = 120.0
    overwrite: bool = False
    skip_missing: bool = False
    pack: bool = False
    pack_file: Path | None = None


def default_run(dataset: str, variant: str | None, config: Config) -> Path:
    """Where a run goes unless told: `runs/<data set>[-<variant>]-<model>-<recipe>`."""
    return Path("runs") / "-".join(filter(None, (dataset, variant, config.model.name, config.train.recipe)))


def train(
    dataset: str,
    *,
    reporter: Reporter,
    model: str | None = None,
    recipe: str | None = None,
    changes: dict[str, Any] | None = None,
    output: str | None = None,
    options: TrainOptions | None = None,
) -> dict[str, Any]:
    """Train a model on a data set's split `train`, choosing the best epoch on its split `val`.

    Args:
        dataset: name or path, with `:variant` or without.
        reporter: is told of progress and of pictures that could not be read.
        model, recipe: presets, the recipe by default the one that the model's names; `changes` are nested keys of the
            configuration over them.
        output: run folder; the same call goes on with the run that is there.
        options: how it is carried out.

    Returns:
        The record of the run: checkpoint, epochs, the best epoch's line of metrics.

    Started by `torchrun`, each process trains on its part of every batch; only the first one reports and writes.
    """
    options, reporter = options or TrainOptions(), reporter if is_first() else Reporter()
    config = resolve(model, recipe, changes)
    check_config(config)
    reporter.now(f"opening {dataset}")
    data = _without_missing(open_dataset(dataset), options.skip_missing, reporter)
    reporter.now("preparing the run")
    _warn_of_polar(config, data, reporter)
    run = RunFolder(output or default_run(data.name, split_variant(dataset)[1], config))
    device = own_device(choose_device(options.device))
    training = _training_split(data, config)
    with joined(device) as ranks, _reproducible(device, options.threads, config.train.deterministic):
        _check_ranks(config, ranks)
        with writer_lock(run.path) if ranks.first else nullcontext():
            if ranks.first:
                # What is there after a restart is this run's own.
                run.open(_settings(config, data), options.overwrite and not is_restarted())
            # The others look for a state when it is known whose it is.
            ranks.wait()
            try:
                progress = _fit(run, config, data, training, device, _divided(options, ranks), reporter, ranks)
            except CvgeoError:
                if ranks.first:
                    run.forget()
                raise
    return _record(run, progress)


def _check_ranks(config: Config, ranks: Ranks) -> None:
    if ranks.size > config.train.batch_size:
        fault = f"batch size {config.train.batch_size} for {ranks.size} processes"
        raise UsageError(fault, mend=f"--batch-size {2 * ranks.size} or more")


def _divided(options: TrainOptions, ranks: Ranks) -> TrainOptions:
    """What a process may use of the memory and cores that all of this machine's share."""
    count = ranks.local_size
    jobs = max(1, (options.jobs or cores()) // count) if count > 1 else options.jobs
    return replace(options, jobs=jobs, memory=options.memory // count)


def _without_missing(data: Dataset, skip: bool, reporter: Reporter) -> Dataset:
    """The splits that training looks at, their pictures there; other splits may be missing altogether."""
    if TRAIN_SPLIT not in data.splits():
        return data
    used = (TRAIN_SPLIT, VALIDATION_SPLIT, EVERY_SPLIT)
    rows = [np.flatnonzero([one in used for one in table.split]) for table in (data.panoramas, data.tiles)]
    return without_missing(data.select(*rows), skip, reporter)


def _warn_of_polar(config: Config, data: Dataset, reporter: Reporter) -> None:
    if config.model.view.aerial == "polar" and data.conventions.aligned is False:
        reporter.warn(
            f"{data.name}: the panoramas do not stand at the tiles' centres, around which the polar transform turns "
            "them; --set model.view.aerial=plain leaves the tiles as they are"
        )


def check_config(config: Config) -> None:
    """Whether settings make sense and their model and loss can be built: UsageError that says what does not fit."""
    _check_training(config.train)
    check_composition(config)


def _check_training(train: TrainConfig) -> None:
    check_schedule(train)
    if train.compile and train.checkpoint_activations:
        fault = "train.compile keeps what is cheaper to keep, and train.checkpoint_activations nothing"
        raise UsageError(fault, mend="take one of them")
    shares = ("roll", "flip", "photometric", "greyscale", "posterise", "erase", "fov_mix", "blend")
    for name, low, high in (
        ("epochs", 1, 10**9),
        ("batch_size", 2, 10**9),
        ("learning_rate", 0, 1e9),
        ("cache_chunk", 0, 10**9),
        ("heading_noise", 0, 180),
        ("fov_start", 1, 360),
        ("fov_end", 1, 360),
        ("fov_epochs", 0, 10**9),
        ("resample_every", 1, 10**9),
        ("neighbour_pool", 2, 10**9),
        ("neighbour_select", 2, 10**9),
        ("false_negative_m", 0, 1e9),
        *((name, 0, 1) for name in shares),
    ):
        if not low <= getattr(train, name) <= high:
            raise UsageError(f"train.{name} = {getattr(train, name)} is out of range", mend=f"{low} to {high:g}")
    if train.sampling not in SAMPLINGS:
        raise UsageError(f"unknown train.sampling {train.sampling!r}", mend="known: " + ", ".join(SAMPLINGS))


def dataset_identity(data: Dataset) -> dict[str, str]:
    """Which data set, as runs record it: its name and a digest of what it says."""
    return {"name": data.name, "fingerprint": dataset_fingerprint(data)}


def _settings(config: Config, data: Dataset) -> dict[str, Any]:
    settings: dict[str, Any] = {"config": to_dict(config), "dataset": dataset_identity(data)}
    if Path(config.train.weights).is_file():
        settings["weights_sha256"] = file_sha256(config.train.weights)
    return settings


@contextmanager
def _reproducible(device: torch.device, threads: int, deterministic: bool) -> Iterator[None]:
    """Fixed threads, deterministic kernels on the CPU, and on CUDA where they are asked for; the caller's random state
    is left as it was.
    """
    old_threads = torch.get_num_threads()
    old_mode = torch.get_deterministic_debug_mode()
    old_search = torch.backends.cudnn.benchmark
    old_fill = torch.utils.deterministic.fill_uninitialized_memory
    torch.set_num_threads(threads or old_threads)
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Not use_deterministic_algorithms: that imports torch's compiler, a second or more.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" or deterministic else "default")
    # Shapes stay: trying out which convolution is fastest pays, but the choice may differ from run to run.
    torch.backends.cudnn.benchmark = device.type == "cuda" and not deterministic
    if device.type == "cuda" and deterministic:
        # Read by cuBLAS at its first product; without it the order of its sums may differ.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    except RuntimeError as error:
        if device.type == "cpu" or "deterministic" not in str(error):
            raise
        fault = f"a part of this model cannot give the same bits twice on {device}: {str(error).splitlines()[0][:100]}"
        raise UsageError(fault, mend="set train.deterministic=false") from error
    finally:
        torch.set_num_threads(old_threads)
        torch.backends.cudnn.benchmark = old_search
        torch.utils.deterministic.fill_uninitialized_memory = old_fill
        torch.set_deterministic_debug_mode(old_mode)


def _fit(
    run: RunFolder,
    config: Config,
    data: Dataset,
    training: Dataset,
    device: torch.device,
    options: TrainOptions,
    reporter: Reporter,
    ranks: Ranks,
) -> Progress:
    found = run.load_state()
    _check_states(run, found, ranks)
    if found is not None and found[0].epoch >= config.train.epochs and run.is_published(found[0]):
        reporter.note(f"{run.path}: is trained already")
        return found[0]
    start = _start(config)
    embedder = synchronised(_build(config, found).to(device), ranks, device)
    reporter.warn_if(run.check_space(sum(one.numel() for one in embedder.parameters())))
    with _pack(config, data, options, reporter, ranks) as pack:
        loading = {"jobs": options.jobs, "reporter": reporter, "pack": pack}
        loader = PairLoader(training, config.model.view, memory=options.memory, **loading)
        loading["memory"] = options.memory - loader.held_bytes
        batches = _batches(training, loader, config)
        return Trainer(
            model=embedder,
            config=config,
            batches=batches,
            loader=loader,
            run=run,
            neighbours=None if config.train.sampling == "random" else HardSampling(config.train, loader, batches),
            validate=_validator(data, config, loading),
            details={"dataset": dataset_identity(data), "conventions": _conventions(training, reporter)},
            reporter=reporter,
            ranks=ranks,
            start=start,
            save_seconds=options.save_seconds,
        ).fit(found)


def _check_states(run: RunFolder, found: tuple[Progress, dict[str, Any]] | None, ranks: Ranks) -> None:
    """Whether all processes found the same state: MismatchError."""
    place = [-1, -1] if found is None else [found[0].epoch, found[0].batch]
    highest = ranks.largest(*place)
    lowest = ranks.largest(*(-one for one in place))
    if any(high != -low for high, low in zip(highest, lowest, strict=True)):
        fault = "the processes found different states here"
        raise MismatchError(fault, path=run.path, mend="name a folder that all machines share with -o")


def _conventions(training: Dataset, reporter: Reporter) -> dict[str, Any]:
    warn_of_unknown_views(training.panoramas, reporter)
    conventions = conventions_of(training)
    if conventions["tile_metres"] is None:
        reporter.warn(f"{training.root}: how much ground its tiles cover is unknown: whether others fit, too, later on")
    return conventions


def _pack(
    config: Config, data: Dataset, options: TrainOptions, reporter: Reporter, ranks: Ranks
) -> AbstractContextManager[Pack | None]:
    if not options.pack and options.pack_file is None:
        return nullcontext()
    splits = [TRAIN_SPLIT] if config.train.validate_every == 0 else [TRAIN_SPLIT, VALIDATION_SPLIT]
    # The first process of each machine fills its cache, the first of all the one file; the others find it ready.
    makes = ranks.builds if options.pack_file is None else ranks.first
    if not makes:
        ranks.wait()
    pack = ready_pack(data, splits, config.model.view, options.pack_file, options.jobs, reporter)
    if makes:
        ranks.wait()
    return pack


def _build(config: Config, found: tuple[Progress, dict[str, Any]] | None) -> Embedder:
    if found is None:
        torch.manual_seed(config.train.seed)
        return build_embedder(config.model, config.train.weights)
    config.model = from_dict(ModelConfig, found[1]["model_config"])
    return build_embedder(config.model)


def _start(config: Config) -> dict[str, torch.Tensor] | None:
    """The weights that training begins with, which do not depend on how far it has come; None where none are kept."""
    if config.train.blend == 1:
        return None
    return _build(deepcopy(config), None).state_dict()


def _training_split(data: Dataset, config: Config) -> Dataset:
    training = data.subset(TRAIN_SPLIT)
    if not len(training.pairs):
        mend = "it has these splits: " + (", ".join(data.splits()) or "none")
        raise InputError(f"no pairs in the split {TRAIN_SPLIT!r} to train on", path=data.root, mend=mend)
    # What does not fit is found before the first picture is decoded.
    batches = _unique_places(training.pairs, training, config)
    batches.epoch(0)
    if config.train.sampling in GEOGRAPHIC:
        _check_places(training, batches)
    _check_needs(training, config)
    return training


def _check_places(training: Dataset, batches: UniquePlaceBatches) -> None:
    lat, _ = places(training.panoramas, training.tiles, batches)
    if np.isnan(lat[batches.panoramas]).all():
        fault = "no positions, which geographic sampling goes by"
        raise InputError(fault, path=training.root, mend="set train.sampling=similarity or random")


def _check_needs(training: Dataset, config: Config) -> None:
    """Whether the data set has what the loss will need in any epoch: InputError."""
    chosen, pairs = config.train.loss, training.pairs
    needs = build("loss", chosen.name, **chosen.options).needs_at(config.train.epochs - 1)
    known = np.isfinite(pairs.offset_north_m + pairs.offset_east_m) & np.isfinite(training.tiles.gsd_m[pairs.tile])
    for need, role in ((OFFSET, POSITIVE), (SEMI_AERIAL, POSITIVE), (SEMI_AERIAL, SEMI_POSITIVE)):
        if need in needs and not np.any(known & (pairs.role == role)):
            fault = f"the loss {chosen.name} needs {SAID[need]}, which it does not have"
            raise InputError(fault, path=training.root, mend="train with another recipe or loss")


def _unique_places(pairs: Pairs, training: Dataset, config: Config) -> UniquePlaceBatches:
    train, count = config.train, len(training.panoramas)
    apart = train.sampling != "random"
    return UniquePlaceBatches(pairs, count, train.batch_size, train.seed, train.neighbour_select, apart)


def _batches(training: Dataset, loader: PairLoader, config: Config) -> UniquePlaceBatches:
    pairs = training.pairs
    broken = np.isin(pairs.panorama, loader.broken_panoramas) | np.isin(pairs.tile, loader.broken_tiles)
    readable = Pairs(pairs.panorama[~broken], pairs.tile[~broken], pairs.role[~broken])
    return _unique_places(readable, training, config)


def _validator(data: Dataset, config: Config, loading: dict[str, Any]) -> Validate | None:
    # Every panorama with a positive tile is a query, all tiles of the split are the gallery.
    data = data.subset(VALIDATION_SPLIT)
    if config.train.validate_every == 0:
        return None
    if not np.any(data.pairs.role == POSITIVE):
        loading["reporter"].warn(
            f"no pairs in the split {VALIDATION_SPLIT!r}: the best epoch is the one of the lowest loss"
        )
        return None
    loader: list[PairLoader] = []

    def validate(model: Embedder) -> dict[str, float]:
        if not loader:
            loader.append(PairLoader(data, config.model.view, **loading))
        ground, aerial = (embed_all(model, loader[0], kind) for kind in ("ground", "aerial"))
        return recalls(data, ground, aerial)

    return validate


def recalls(data: Dataset, ground: np.ndarray, aerial: np.ndarray) -> dict[str, float]:
    """r@1, r@5, r@10 and r@1% of the queries with a positive tile, from descriptors (P, D) and (T, D)."""
    positive = data.pairs.role == POSITIVE
    queries, number = np.unique(data.pairs.panorama[positive], return_inverse=True)
    found = ranks(ArrayGallery(aerial), ground[queries], (number, data.pairs.tile[positive])).exact
    wanted = {"r@1": 1, "r@5": 5, "r@10": 10, "r@1%": one_percent(len(aerial))}
    return {name: recall_at(found, k) for name, k in wanted.items()}


def _record(run: RunFolder, progress: Progress) -> dict[str, Any]:
    best = dict(progress.best or {})
    return {
        "checkpoint": str(run.best),
        "epochs": progress.epoch,
        "best_epoch": best.pop("epoch", None),
        **{key: best.get(key) for key in ("loss", "r@1", "r@5", "r@10", "r@1%")},
        "seconds": round(sum(line["seconds"] for line in progress.metrics), 3),
    }
