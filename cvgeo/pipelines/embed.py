"""`cvgeo embed`: pictures in, an embedding store out; only what is new or changed is computed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import Subset

from cvgeo import __version__
from cvgeo.config.schema import to_dict
from cvgeo.data.conventions import check_conventions, conventions_of, tile_metres
from cvgeo.data.ground import parts
from cvgeo.data.images import image_size
from cvgeo.data.loader import cores, item_batches
from cvgeo.data.missing import without_missing
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import Conventions, Dataset, Panoramas, Tiles
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.data.views import AerialViews, GroundViews, to_tensor
from cvgeo.errors import CvgeoError, InputError, MismatchError, UsageError
from cvgeo.geometry.projections import EQUIRECTANGULAR
from cvgeo.memory import at_most, is_limited
from cvgeo.models import Embedder, fingerprint
from cvgeo.models.cost import forward_bytes
from cvgeo.models.device import choose_device
from cvgeo.models.embedder import VIEWS
from cvgeo.paths import check_space, file_sha256, state_dir, write_text
from cvgeo.pipelines.pictures import (
    ground_files,
    loose_panoramas,
    loose_tiles,
    picture_files,
    read_ground_picture,
)
from cvgeo.report import FailuresLater, Reporter
from cvgeo.retrieval import EmbeddingStore, StoreHeader, StoreRows, StoreWriter, writing
from cvgeo.retrieval.columns import StoreColumns
from cvgeo.retrieval.rows import HALF
from cvgeo.retrieval.shards import Shard, absent, shards_of, take_shards
from cvgeo.retrieval.store import refuse_other, relative_to_store
from cvgeo.training.checkpoint import find_checkpoint, resolve_model, trained_conventions
from cvgeo.training.ranks import Ranks, is_first, is_restarted, joined, own_device, under_torchrun

LAST_STORE = "last_store.json"
FEW = 16
DEFAULT_HEADINGS = 16
ROW_BYTES = 250  # of a row without its embedding: names, position, hashes


@dataclass
class EmbedOptions:
    """How embedding is carried out; none but `skip_missing`, `prune` and `storage` changes the result.

    `shard` fills one of several shards of the store, which the same call without it takes in. `prune` removes the rows
    of pictures that are no more. Rows are saved in parts of at most `part_rows`, at least every `part_seconds`: what a
    kill can cost. `storage` is half or int8; None keeps that of a store that is there.
    """

    batch_size: int = 32
    device: str = "auto"
    jobs: int = 0
    part_rows: int = 4096
    join: bool = False
    overwrite: bool = False
    skip_missing: bool = False
    allow_mismatch: bool = False
    part_seconds: float = 30.0
    prune: bool = False
    shard: Shard | None = None
    storage: str | None = None


@dataclass(frozen=True)
class AzimuthModel:
    """A model whose descriptors are azimuth columns that can be rolled, and by what it is found again."""

    model: Embedder
    reference: str
    weights: str
    fingerprint: str

    def on(self, header: StoreHeader) -> StoreHeader:
        """The header of a store that holds this model's azimuth maps, too."""
        said = {"model": self.reference, "weights": self.weights, "fingerprint": self.fingerprint}
        own = {f"azimuth_{name}": value for name, value in said.items()}
        return replace(header, azimuth_dimension=self.model.descriptor_size, **own)


@dataclass
class Source:
    """The pictures of one view: their table, and their views in the same order.

    `azimuth` makes azimuth maps of tiles beside their descriptors, from `azimuth_views`.
    """

    table: Panoramas | Tiles
    views: TorchDataset
    conventions: Conventions = field(default_factory=Conventions)
    azimuth: AzimuthModel | None = None
    azimuth_views: TorchDataset | None = None

    def with_azimuth(self, azimuth: AzimuthModel) -> Self:
        """The same tiles, to be given azimuth maps as well."""
        return replace(self, azimuth=azimuth, azimuth_views=AerialViews(self.table, azimuth.model.config.view))


@dataclass
class EmbedCounts:
    """What was done: rows that are new, reused, and pruned, and pictures that failed."""

    new: int = 0
    reused: int = 0
    failed: int = 0
    pruned: int = 0


def load_model(reference: str, weights: str | None, device: str) -> tuple[Embedder, str, str]:
    """A model, and the reference and weights by which a later command finds it again from any folder."""
    model = resolve_model(reference, weights, choose_device(device))
    checkpoint = find_checkpoint(reference)
    if checkpoint is not None:
        return model, os.path.abspath(checkpoint), ""
    source = weights or os.environ.get("CVGEO_WEIGHTS") or ""
    return model, reference, os.path.abspath(source) if os.path.isfile(source) else source


def load_azimuth_model(reference: str, weights: str | None, device: str) -> AzimuthModel:
    """A model for headings. Raises UsageError for one without azimuth columns that can be rolled."""
    model, *found = load_model(reference, weights, device)
    if not model.rolls:
        mend = "name a model such as any_view, dsm or tiny, trained"
        raise UsageError(f"{reference} has no azimuth columns that can be rolled", mend=mend)
    return AzimuthModel(model, *found, fingerprint(model))


def header_of(model: Embedder, reference: str, weights: str, view: str, conventions: Conventions) -> StoreHeader:
    """The header of a store that a model's embeddings of a view go to."""
    config = model.config
    return StoreHeader(
        fingerprint=fingerprint(model),
        dimension=model.descriptor_size,
        view=view,
        model=reference,
        weights=weights,
        model_config=to_dict(config),
        azimuth_columns=model.azimuth_columns,
        column0_heading=config.view.column0_heading,
        polar_convention=config.view.polar_convention if config.view.aerial == "polar" else "",
        conventions={**asdict(conventions), "trained": trained_conventions(reference)},
        created_by=f"cvgeo {__version__}",
    )


def turns_tried(model: Embedder, headings: int | None) -> int:
    """How many headings a picture of unknown heading is embedded at: one where the descriptor can be rolled."""
    if model.rolls:
        return 1
    return headings or model.azimuth_columns or DEFAULT_HEADINGS


def dataset_source(data: Dataset, view: str, model: Embedder) -> Source:
    """One view of a data set as its model sees it."""
    if view == "aerial":
        return Source(data.tiles, AerialViews(data.tiles, model.config.view), data.conventions)
    views = GroundViews(data.panoramas, model.config.view, data.conventions)
    return Source(data.panoramas, views, data.conventions)


def loose_source(
    pictures: list[Path],
    view: str,
    model: Embedder,
    store: Path,
    reporter: Reporter,
    stated: StatedPose | None = None,
) -> Source:
    """One view of pictures that stand in no data set."""
    if view == "aerial":
        tiles = loose_tiles(pictures, store)
        return Source(tiles, AerialViews(tiles, model.config.view))
    grounds = []
    for path in pictures:
        try:
            grounds.append(read_ground_picture(path, reporter, stated))
        except CvgeoError as error:
            reporter.fail(str(path), str(error))
    table = loose_panoramas(grounds, store)
    return Source(table, GroundViews(table, model.config.view, Conventions()))


@dataclass
class _Stamped:
    """One embedded picture: the file as it was when it was read, and its view."""

    size: int
    mtime_ns: int
    content_hash: bytes
    pixels: int
    item: Any
    azimuth_item: Any = None


class _StampedViews(TorchDataset):
    """Views of chosen rows with the stamp of their files; runs in the workers."""

    def __init__(self, source: Source, rows: np.ndarray):
        self.files = [_files(source, int(row)) for row in rows]
        self.views, self.azimuth_views, self.rows = source.views, source.azimuth_views, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> _Stamped | CvgeoError:
        # Stamped before it is decoded: a picture that changes in between looks changed to the next run.
        files, row = self.files[item], int(self.rows[item])
        try:
            stamp, digest = _stamp(files), _content(files)
            pixels = image_size(files[0])[1]
        except (CvgeoError, OSError):
            view = self.views[row]
            return view if isinstance(view, CvgeoError) else InputError("changed while it was read", path=files[0])
        view = self.views[row]
        other = None if self.azimuth_views is None else self.azimuth_views[row]
        for one in (view, other):
            if isinstance(one, CvgeoError):
                return one
        return _Stamped(*stamp, digest, pixels, view, other)


def _files(source: Source, row: int) -> list[Path]:
    """The files that a row is read from: of a cube map in six files all of them."""
    table = source.table
    return parts(table.path[row], "" if isinstance(table, Tiles) else table.projection[row])


def _stamp(files: list[Path]) -> tuple[int, int]:
    """Size and time of a picture's files; of several a number that changes with each of them."""
    status = [os.stat(file) for file in files]
    return sum(one.st_size for one in status), sum(one.st_mtime_ns for one in status) % 2**62


def _content(files: list[Path]) -> bytes:
    """SHA-256 of a picture's file, or of the digests of its files."""
    digests = [bytes.fromhex(file_sha256(file)) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256(b"".join(digests)).digest()


def _placements(source: Source) -> np.ndarray:
    """A hash (N,) uint64 of all but the picture that a view is made of; 0 for tiles."""
    table = source.table
    if isinstance(table, Tiles):
        return np.zeros(len(table), np.uint64)
    numbers = np.column_stack([table.column0_heading, table.hfov, table.vfov_top, table.vfov_bottom])
    conventions = json.dumps([source.conventions.fit, source.conventions.ground_rows]).encode()
    tails = [conventions + _projected(*pose) for pose in zip(table.projection, table.pitch, table.roll, strict=True)]
    digests = (hashlib.sha256(row.tobytes() + tail).digest()[:8] for row, tail in zip(numbers, tails, strict=True))
    return np.array([int.from_bytes(digest, "little") for digest in digests], dtype=np.uint64)


def _projected(projection: str, pitch: float, roll: float) -> bytes:
    # Nothing for a level equirectangular picture: rows of stores made before there were others stay valid.
    pose = projection or EQUIRECTANGULAR, *(0.0 if math.isnan(angle) else angle for angle in (pitch, roll))
    return b"" if pose == (EQUIRECTANGULAR, 0.0, 0.0) else json.dumps(pose).encode()


@dataclass
class _Plan:
    """Rows of the table to compute, and rows that are in the store with other metadata: (row, row in the store)."""

    compute: np.ndarray
    refresh: list[tuple[int, int]]
    reused: int


def _same_number(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def _plan(source: Source, placements: np.ndarray, store: EmbeddingStore, store_path: Path) -> _Plan:
    known = {id: row for row, id in enumerate(store.columns.id)}
    compute, refresh, reused = [], [], 0
    table, columns, paths = source.table, store.columns, list(store.columns.path)
    for row, id in enumerate(table.id):
        old = known.get(id)
        if old is None or columns.placement[old] != placements[row]:
            compute.append(row)
            continue
        same_file = _unchanged(_files(source, row), columns, old)
        if same_file is None:
            compute.append(row)
            continue
        reused += 1
        gsd = table.gsd_m[row] if isinstance(table, Tiles) else math.nan
        alike = all(
            _same_number(float(one), float(other))
            for one, other in ((table.lat[row], columns.lat[old]), (table.lon[row], columns.lon[old]))
        ) and _same_number(float(gsd), float(columns.gsd_m[old]))
        if not (same_file and alike and paths[old] == relative_to_store(store_path, table.path[row])):
            refresh.append((row, old))
    return _Plan(np.array(compute, dtype=np.int64), refresh, reused)


def _unchanged(files: list[Path], columns: StoreColumns, old: int) -> bool | None:
    """True: the file is as it was; False: only its stamp changed; None: its content changed or cannot be read."""
    try:
        if _stamp(files) == (columns.size[old], columns.mtime_ns[old]):
            return True
        same = _content(files) == columns.content_hash[old].tobytes()
    except OSError:
        return None
    return False if same else None


def _rows(
    source: Source,
    rows: np.ndarray,
    stamps: list[_Stamped],
    descriptors: np.ndarray,
    store: Path,
    azimuth: np.ndarray,
) -> StoreRows:
    table = source.table
    pixels = np.array([stamp.pixels for stamp in stamps], dtype=float)
    gsd = table.gsd_m[rows] if isinstance(table, Tiles) else np.full(len(rows), np.nan)
    return StoreRows.of(
        [table.id[row] for row in rows],
        descriptors,
        [relative_to_store(store, table.path[row]) for row in rows],
        lat=table.lat[rows],
        lon=table.lon[rows],
        gsd_m=gsd,
        ground_m=gsd * pixels,
        content_hash=np.frombuffer(b"".join(stamp.content_hash for stamp in stamps), np.uint8),
        placement=_placements(source)[rows] if len(rows) else [],
        size=[stamp.size for stamp in stamps],
        mtime_ns=[stamp.mtime_ns for stamp in stamps],
        azimuth=azimuth,
    )


def _refreshed(source: Source, pairs: list[tuple[int, int]], store: EmbeddingStore, path: Path) -> StoreRows:
    table = source.table
    rows, old = (np.array(column, dtype=np.int64) for column in zip(*pairs, strict=True))
    kept = store.columns.take(old)
    status = [os.stat(table.path[row]) for row in rows]
    gsd = table.gsd_m[rows] if isinstance(table, Tiles) else np.full(len(rows), np.nan)
    # The tile shows as many pixels as before.
    with np.errstate(invalid="ignore", divide="ignore"):
        pixels = kept.ground_m / kept.gsd_m
    pixels = np.where(np.isnan(pixels), [image_size(table.path[row])[1] for row in rows], pixels)
    embedding, scale = store.stored(old)
    return StoreRows.of(
        kept.id,
        embedding,
        [relative_to_store(path, table.path[row]) for row in rows],
        lat=table.lat[rows],
        lon=table.lon[rows],
        gsd_m=gsd,
        ground_m=gsd * pixels,
        content_hash=kept.content_hash,
        placement=kept.placement,
        size=[one.st_size for one in status],
        mtime_ns=[one.st_mtime_ns for one in status],
        azimuth=store.fetch_azimuth(old),
        scale=scale,
    )


@torch.inference_mode()
def describe(model: Embedder, view: str, items: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Descriptors (B, D) float32 of views and masks as the data sets of views give them."""
    device = next(model.parameters()).device
    images = np.stack([image for image, _ in items])
    masks = np.stack([mask for _, mask in items])
    mask = None if masks.all() else torch.from_numpy(masks).to(device)
    tensor = to_tensor(torch.from_numpy(images).to(device), mask, model.config.view)
    return model.embed(view, tensor, mask).descriptor.float().cpu().numpy()


def _computed(
    source: Source, rows: np.ndarray, model: Embedder, view: str, options: EmbedOptions, reporter: Reporter, store: Path
) -> Iterator[StoreRows]:
    """Batches of new rows; pictures that fail are reported."""
    jobs = 1 if len(rows) <= FEW else options.jobs
    size = _batch_size(source, model, view, options)
    batches = item_batches(_StampedViews(source, rows), size, jobs, _item_bytes(source, model, view))
    tracked = iter(reporter.track((item for batch in batches for item in batch), f"embed {view} views", len(rows)))
    told: set[Path] = set()
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        good: list[tuple[int, _Stamped]] = []
        for row, stamped in zip(some.tolist(), islice(tracked, len(some)), strict=True):
            path = source.table.path[row]
            if not isinstance(stamped, CvgeoError):
                good.append((row, stamped))
            elif path not in told:
                told.add(path)
                reporter.fail(str(path), str(stamped))
        if good:
            yield _described(source, good, model, view, reporter, store)
    next(tracked, None)  # takes the progress bar down


def _item_bytes(source: Source, model: Embedder, view: str) -> int:
    """Bytes of a view and its mask as they come from the workers, and of the view for azimuth maps."""
    models = [model] if source.azimuth is None else [model, source.azimuth.model]
    return sum(4 * height * width for one in models for height, width in [one.sizes[VIEWS.index(view)]])


def _batch_size(source: Source, model: Embedder, view: str, options: EmbedOptions) -> int:
    """Pictures at a time: as told, fewer where the memory limit has no room for what the model makes of them."""
    if not is_limited():
        return options.batch_size
    models = [model] if source.azimuth is None else [model, source.azimuth.model]
    return at_most(options.batch_size, max(forward_bytes(one, view) for one in models), 0.5)


def _described(
    source: Source, good: list[tuple[int, _Stamped]], model: Embedder, view: str, reporter: Reporter, store: Path
) -> StoreRows:
    descriptors = describe(model, view, [stamped.item for _, stamped in good])
    azimuth = np.zeros((len(good), 0))
    if source.azimuth is not None:
        azimuth = describe(source.azimuth.model, view, [stamped.azimuth_item for _, stamped in good])
    finite = np.isfinite(descriptors).all(axis=1) & np.isfinite(azimuth).all(axis=1)
    for position in np.flatnonzero(~finite):
        path = source.table.path[good[position][0]]
        reporter.fail(str(path), f"{path}: the model gives no finite descriptor for it")
    kept = [pair for pair, fine in zip(good, finite, strict=True) if fine]
    rows = np.array([row for row, _ in kept], dtype=np.int64)
    return _rows(source, rows, [stamped for _, stamped in kept], descriptors[finite], store, azimuth[finite])


def _save_in_parts(batches: Iterator[StoreRows], writer: StoreWriter, options: EmbedOptions) -> int:
    """Add batches of rows to the store, a part at a time; returns how many rows."""
    part_rows = at_most(options.part_rows, 6 * writer.header.dimension + 2 * ROW_BYTES, 0.125)
    held: list[StoreRows] = []
    saved = count = 0
    since = time.monotonic()
    for batch in batches:
        held.append(batch)
        count += len(batch)
        if count - saved >= part_rows or time.monotonic() - since > options.part_seconds:
            writer.add(StoreRows.joined(held))
            held, saved, since = [], count, time.monotonic()
    if held:
        writer.add(StoreRows.joined(held))
    return count


def embed_source(
    source: Source,
    model: Embedder,
    header: StoreHeader,
    path: str | os.PathLike[str],
    options: EmbedOptions,
    reporter: Reporter,
) -> EmbedCounts:
    """Bring a store up to date with pictures: compute what is new or changed, keep the rest.

    Raises MismatchError where another model or view made the store, OutputError where it cannot be written.
    """
    path = Path(path)
    failed = len(reporter.failures)
    header = replace(header, storage=_storage(path, options))
    with writing(path, header, options.overwrite) as writer:
        if options.shard is None:
            _take_shards(writer, reporter)
        with EmbeddingStore(path) as store:
            plan = _plan(source, _placements(source), store, path)
            if plan.refresh:
                writer.add(_refreshed(source, plan.refresh, store, path))
        new = 0
        if len(plan.compute):
            _check_space(path, len(plan.compute), header.row_bytes, reporter)
            batches = _computed(source, plan.compute, model, header.view, options, reporter, path)
            new = _save_in_parts(batches, writer, options)
        pruned = prune(writer, path) if options.prune else 0
        if options.join:
            writer.join()
        else:
            writer.join_if_many()
    return EmbedCounts(new, plan.reused, len(reporter.failures) - failed, pruned)


def _take_shards(writer: StoreWriter, reporter: Reporter) -> None:
    """Take in what other processes have done for the store."""
    shards = shards_of(writer.path)
    if not shards:
        return
    missing = ", ".join(f"{one.number}/{one.count}" for one in absent(shards))
    if missing:
        reporter.note(f"{writer.path}: no shard {missing}; what is missing is computed now")
    rows = take_shards(writer)
    reporter.note(f"{writer.path}: {rows} rows from {len(shards)} shards")


def _storage(path: Path, options: EmbedOptions) -> str:
    """How numbers are stored: as asked for, else as in the store that is there or in its shards, else half."""
    if options.storage is not None:
        return options.storage
    made = [path] if path.exists() and not options.overwrite else [one.path(path) for one in shards_of(path)]
    if not made:
        return HALF
    with EmbeddingStore(made[0]) as there:
        return there.header.storage


def _check_space(path: Path, rows: int, row_bytes: int, reporter: Reporter) -> None:
    """Warn, or refuse, where the disk has no room for new rows: as parts, and once more while they are joined."""
    least = rows * row_bytes
    expected = 2 * (least + rows * ROW_BYTES)
    reporter.warn_if(check_space(path, f"a store with {rows:,} new rows", expected, least, "name another --output"))


def prune(writer: StoreWriter, path: Path) -> int:
    """Remove the rows of pictures that are not there any more; returns how many.

    Raises InputError where not one is there, as when a disk is not mounted.
    """
    with EmbeddingStore(path) as store:
        there = np.array([os.path.lexists(store.folder / name) for name in store.columns.path], dtype=bool)
    if len(there) and not there.any():
        fault = "not one of its pictures is there: no row is removed"
        raise InputError(fault, path=path, mend="mount the disk that holds them, or make a new store")
    if not there.all():
        writer.join(np.flatnonzero(there))
    return int((~there).sum())


def _of_shard(source: Source, shard: Shard, store: Path, header: StoreHeader, anew: bool) -> Source:
    """What a shard is to compute of a source: a part of what the store lacks, of everything if it is made `anew`."""
    lacking = np.arange(len(source.table))
    if store.exists() and not anew:
        with EmbeddingStore(store) as there:
            refuse_other(there, header)
            lacking = _plan(source, _placements(source), there, store).compute
    rows = lacking[shard.rows(len(lacking))]
    views = (None if one is None else Subset(one, rows.tolist()) for one in (source.views, source.azimuth_views))
    return replace(source, table=source.table.take(rows), **dict(zip(("views", "azimuth_views"), views, strict=True)))


def _row_count(path: Path) -> int:
    with EmbeddingStore(path) as store:
        return len(store)


def _filled(
    source: Source, model: Embedder, header: StoreHeader, output: Path, options: EmbedOptions, reporter: Reporter
) -> tuple[EmbedCounts, int]:
    """Embed a source into a store; what was done, and how many rows the store has. A new one without any is removed."""
    is_new = not output.exists()
    try:
        counts = embed_source(source, model, header, output, options, reporter)
    except MismatchError:
        if is_new and not _row_count(output):
            output.unlink()
        raise
    rows = _row_count(output)
    # A shard of few pictures may have none.
    if not rows and len(source.table):
        if is_new:
            output.unlink()
        raise InputError("none of the pictures can be embedded", path=output, mend="no store is made")
    return counts, rows


def _fill_shards(
    source: Source,
    model: Embedder,
    header: StoreHeader,
    output: Path,
    options: EmbedOptions,
    reporter: Reporter,
    ranks: Ranks,
) -> int:
    """Have every process of a run fill its shard of what the store lacks; returns how many rows all of them made.

    What fails is tried again, and told, by the first process when it takes the shards in.
    """
    # What is there after a restart is this run's own.
    overwrite = options.overwrite and not is_restarted()
    if ranks.first and output.exists():
        with writing(output, header, overwrite):
            pass
    ranks.wait()
    shard = Shard(ranks.size, ranks.rank + 1)
    part = _of_shard(source, shard, output, header, anew=False)
    jobs = max(1, (options.jobs or cores()) // ranks.local_size)
    own = replace(options, shard=shard, jobs=jobs, overwrite=overwrite, prune=False)
    counts = embed_source(part, model, header, shard.path(output), own, FailuresLater(reporter))
    return int(ranks.summed(torch.tensor(counts.new)))


def _filled_together(
    source: Source,
    model: Embedder,
    header: StoreHeader,
    output: Path,
    options: EmbedOptions,
    reporter: Reporter,
    device: torch.device,
) -> tuple[EmbedCounts, int]:
    """As `_filled`, by all processes of a run; what the first one gets counts."""
    with joined(device) as ranks:
        if ranks.size == 1:
            return _filled(source, model, header, output, options, reporter)
        made = _fill_shards(source, model, header, output, options, reporter, ranks)
        counts, rows = EmbedCounts(), 0
        if ranks.first:
            again = replace(options, overwrite=False)
            counts, rows = _filled(source, model, header, output, again, reporter)
            counts.new, counts.reused = counts.new + made, counts.reused - made
        ranks.wait()
        return counts, rows


def embed(
    names: list[str],
    output: Path,
    *,
    reporter: Reporter,
    model: str,
    weights: str | None = None,
    dataset: str | None = None,
    split: str | None = None,
    view: str = "aerial",
    stated: StatedPose | None = None,
    azimuth: str | None = None,
    options: EmbedOptions | None = None,
) -> dict[str, Any]:
    """Embed a data set's split, or pictures and folders named, into a store; `stated` is told of all ground pictures.

    `azimuth` is the model whose azimuth maps of tiles are kept beside their descriptors, for headings.

    Returns:
        The record of the store: store, view, rows, new, reused, failed, pruned, dimension, storage, model, fingerprint.

    Started by `torchrun`, each process embeds its part of the pictures; only the first one reports, and takes the
    others' parts in.
    """
    options, reporter = options or EmbedOptions(), reporter if is_first() else Reporter()
    device = own_device(choose_device(options.device))
    if under_torchrun() and options.shard is not None:
        raise UsageError("--shard under torchrun, which shares the pictures itself", mend="leave --shard away")
    embedder, reference, weights_source = load_model(model, weights, str(device))
    source = _asked_for(names, dataset, split, view, stated, embedder, reference, output, options, reporter)
    if not len(source.table):
        raise InputError("no pictures to embed", path=dataset or (names[0] if names else None), mend="name some")
    header = header_of(embedder, reference, weights_source, view, source.conventions)
    if azimuth is not None:
        heading_model = load_azimuth_model(azimuth, weights, str(device))
        source, header = source.with_azimuth(heading_model), heading_model.on(header)
    # Before it is a shard's own store: all shards are like the one that takes them in.
    options = replace(options, storage=_storage(output, options))
    header = replace(header, storage=options.storage)
    if options.shard is not None:
        source = _of_shard(source, options.shard, output, header, options.overwrite)
        output = options.shard.path(output)
    counts, rows = _filled_together(source, embedder, header, output, options, reporter, device)
    if options.shard is None and is_first():
        remember_store(output)
    return {
        "store": str(output),
        "view": view,
        "rows": rows,
        **asdict(counts),
        "dimension": header.dimension,
        "storage": options.storage,
        "azimuth_dimension": header.azimuth_dimension,
        "model": reference,
        "fingerprint": header.fingerprint,
    }


def _asked_for(
    names: list[str],
    dataset: str | None,
    split: str | None,
    view: str,
    stated: StatedPose | None,
    embedder: Embedder,
    reference: str,
    output: Path,
    options: EmbedOptions,
    reporter: Reporter,
) -> Source:
    """The pictures of a data set's split, or those named, whose conventions fit the model's."""
    if dataset is not None:
        data = without_missing(_split(open_dataset(dataset), split), options.skip_missing, reporter, (view,))
        trained = trained_conventions(reference)
        check_conventions(trained, conventions_of(data), view, data.root, options.allow_mismatch, reporter)
        return dataset_source(data, view, embedder)
    stated = stated or StatedPose()
    found = picture_files(names, reporter) if view == "aerial" else ground_files(names, stated, reporter)
    source = loose_source(list(found), view, embedder, output, reporter, stated)
    _check_loose(source, trained_conventions(reference), view, options, reporter)
    return source


def _check_loose(
    source: Source, trained: dict[str, Any] | None, view: str, options: EmbedOptions, reporter: Reporter
) -> None:
    given = {"tile_metres": tile_metres(source.table)} if isinstance(source.table, Tiles) else {}
    if len(source.table):
        check_conventions(trained, given, view, "the pictures", options.allow_mismatch, reporter)


def _split(data: Dataset, split: str | None) -> Dataset:
    if split is None:
        return data
    if split not in data.splits():
        known = ", ".join(data.splits()) or "none"
        raise InputError(f"no split {split!r}", path=data.root, mend=f"it has these splits: {known}")
    return data.subset(split)


def remember_store(path: Path) -> None:
    """Keep in the user's state folder which store was made last."""
    write_text(state_dir() / LAST_STORE, json.dumps({"store": os.path.abspath(path)}) + "\n")


def last_store() -> Path:
    """The store that this user made last. Raises InputError where none is remembered."""
    try:
        return Path(json.loads((state_dir() / LAST_STORE).read_text(encoding="utf-8"))["store"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "no store is remembered", mend="make one with cvgeo embed, or name one with --store"
        ) from error
