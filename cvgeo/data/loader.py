"""Views from disk to batches: read from a pack, held decoded in memory where they fit, or decoded when needed."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cvgeo.config.schema import ViewConfig
from cvgeo.data.pack import Pack, PackedViews
from cvgeo.data.schema import Dataset
from cvgeo.data.views import AerialViews, GroundViews
from cvgeo.errors import CvgeoError
from cvgeo.geometry.opencv import import_cv2
from cvgeo.memory import at_most
from cvgeo.report import Reporter

Views = GroundViews | AerialViews
AHEAD = 4  # batches that wait, a worker


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))


def worker_count(jobs: int) -> int:
    """Worker processes for `--jobs`: 0 means one a core; 0 workers (the caller decodes) for a single one."""
    count = jobs or cores()
    return 0 if count == 1 else count


def _start_worker(worker: int) -> None:
    # The main process decides when to stop; a Ctrl-C on the terminal reaches the workers as well.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import_cv2().setNumThreads(0)


def _as_they_are(items: list[Any]) -> list[Any]:
    return items


def _loader(
    items: TorchDataset, workers: int, batches: Sequence[Sequence[Any]], collate: Any, ahead: int = AHEAD
) -> DataLoader:
    return DataLoader(
        items,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=collate,
        worker_init_fn=_start_worker,
        prefetch_factor=ahead if workers else None,
    )


def _chunks(count: int, size: int) -> list[list[int]]:
    return [list(range(start, min(start + size, count))) for start in range(0, count, size)]


@dataclass
class CachedViews:
    """Decoded views of one table: `images` (N, H, W, 3) uint8, `masks` (N, H, W) bool or None where all is seen.

    `broken` maps rows that could not be read to the reason; their pixels are undefined.
    """

    images: Tensor
    masks: Tensor | None
    broken: dict[int, CvgeoError]

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Views (n, H, W, 3) uint8 of these rows and their masks (n, H, W) bool, None where all is seen."""
        index = torch.as_tensor(rows)
        masks = None if self.masks is None else self.masks[index]
        return self.images[index], None if masks is None or masks.all() else masks

    def expect(self, rows: np.ndarray) -> None:
        """Tell which rows are taken next: all are here."""


def decode_views(views: Views, height: int, width: int, jobs: int, reporter: Reporter, what: str) -> CachedViews:
    """Decode all rows of a table of views into memory."""
    images = torch.empty((len(views), height, width, 3), dtype=torch.uint8)
    masks: Tensor | None = None
    broken: dict[int, CvgeoError] = {}
    loader = _loader(views, worker_count(jobs), _chunks(len(views), 8), _as_they_are)
    flat = (item for items in loader for item in items)
    for row, item in enumerate(reporter.track(flat, what, len(views))):
        if isinstance(item, CvgeoError):
            broken[row] = item
            continue
        images[row] = torch.from_numpy(item[0])
        if masks is None and not item[1].all():
            masks = torch.ones((len(views), height, width), dtype=torch.bool)
        if masks is not None:
            masks[row] = torch.from_numpy(item[1])
    return CachedViews(images, masks, broken)


@dataclass
class PairBatch:
    """Decoded pairs: ground (B, H, W, 3) and aerial (B, h, w, 3) uint8, mask (B, H, W) bool or None.

    `failures` lists (id, reason) of the pictures that could not be read; their pairs are left out. `rows` (B, 2) or
    (B, 3) are those of the panoramas, tiles and semi-positive tiles; `semi` (B, h, w, 3) uint8 the views of the latter,
    the positive tile's own where there is none (row -1), and None where none were asked for.
    """

    ground: Tensor
    mask: Tensor | None
    aerial: Tensor
    failures: list[tuple[str, str]]
    rows: np.ndarray
    semi: Tensor | None = None

    def take(self, some: slice) -> PairBatch:
        """Some of the pairs; the failures stay with the whole."""
        mask, semi = (None if one is None else one[some] for one in (self.mask, self.semi))
        return PairBatch(self.ground[some], mask, self.aerial[some], [], self.rows[some], semi)

    def on(self, device: torch.device) -> PairBatch:
        """The pairs on a device, by way of pinned memory: the copy runs beside what the device computes."""
        if device.type != "cuda":
            return self

        def moved(one: Tensor | None) -> Tensor | None:
            return None if one is None else one.pin_memory().to(device, non_blocking=True)

        views = moved(self.ground), moved(self.mask), moved(self.aerial)
        return PairBatch(*views, self.failures, self.rows, moved(self.semi))


def read_ahead(batches: Iterator[PairBatch], device: torch.device) -> Iterator[PairBatch]:
    """The same batches on their device; each is read while the one before it is trained on."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (pairs := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield pairs.on(device)


class _PairViews(TorchDataset):
    def __init__(self, ground: GroundViews, aerial: AerialViews):
        self.ground, self.aerial = ground, aerial

    def __getitem__(self, rows: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """The rows and their views: ground, aerial, and where there are three rows the semi-positive one."""
        panorama, tile, *semi = rows.tolist()
        views = [self.ground[panorama], self.aerial[tile]]
        return rows, views + [views[1] if one < 0 else self.aerial[one] for one in semi]


def _collate(items: list[tuple[np.ndarray, list[Any]]]) -> PairBatch:
    failures = [(one.path or "", str(one)) for _, views in items for one in views if isinstance(one, CvgeoError)]
    whole = [(rows, views) for rows, views in items if not any(isinstance(one, CvgeoError) for one in views)]
    if not whole:
        return PairBatch(torch.empty(0), None, torch.empty(0), failures, np.empty((0, 2), dtype=np.int64))
    masks = np.stack([views[0][1] for _, views in whole])
    ground, aerial, *semi = (
        torch.from_numpy(np.stack([views[kind][0] for _, views in whole])) for kind in range(len(whole[0][1]))
    )
    return PairBatch(
        ground,
        None if masks.all() else torch.from_numpy(masks),
        aerial,
        failures,
        np.stack([rows for rows, _ in whole]),
        *semi,
    )


class PairLoader:
    """Batches of pairs of one split, and its single views for validation.

    Attributes: `held_bytes`, the memory that decoded views take; 0 unless they are held.

    Views are read from a `pack` if one is given, held decoded in memory if all of them take at most `memory` bytes,
    else decoded by `jobs` workers when they are needed: the same pixels and masks each time. Broken pictures are
    reported once; unless views are decoded when needed, their rows are in `broken_panoramas` and `broken_tiles` before
    the first batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        view: ViewConfig,
        *,
        jobs: int,
        memory: int,
        reporter: Reporter,
        pack: Pack | None = None,
    ):
        self.dataset, self.view, self.jobs, self.reporter = dataset, view, jobs, reporter
        self.ground = GroundViews(dataset.panoramas, view, dataset.conventions)
        self.aerial = AerialViews(dataset.tiles, view)
        self._reported: set[str] = set()
        self._ready: tuple[CachedViews | PackedViews, CachedViews | PackedViews] | None = None
        self.held_bytes = 0
        if pack is not None:
            self._ready = (
                PackedViews.of(pack, "ground", dataset.panoramas, dataset.root),
                PackedViews.of(pack, "aerial", dataset.tiles, dataset.root),
            )
        elif views_size(dataset, view) <= memory:
            self._ready = self._decode()
            self.held_bytes = views_size(dataset, view)
        for views in self._ready or ():
            self._report([(error.path or "", str(error)) for error in views.broken.values()])

    def _decode(self) -> tuple[CachedViews, CachedViews]:
        view = self.view
        return (
            decode_views(self.ground, view.ground_height, view.ground_width, self.jobs, self.reporter, "panoramas"),
            decode_views(self.aerial, view.aerial_height, view.aerial_width, self.jobs, self.reporter, "tiles"),
        )

    def _report(self, failures: list[tuple[str, str]]) -> None:
        for item, reason in failures:
            if item not in self._reported:
                self._reported.add(item)
                self.reporter.fail(item, reason)

    @property
    def broken_panoramas(self) -> list[int]:
        """Rows of panoramas that are known not to be readable."""
        return sorted(self._ready[0].broken) if self._ready else []

    @property
    def broken_tiles(self) -> list[int]:
        """Rows of tiles that are known not to be readable."""
        return sorted(self._ready[1].broken) if self._ready else []

    def pairs(self, batches: list[np.ndarray]) -> Iterator[PairBatch]:
        """The pairs of each batch of (B, 2) rows of the panorama and of the tile table.

        A third column asks for a semi-positive tile as well; -1 means that there is none.
        """
        if self._ready:
            for batch, following in zip_longest(batches, batches[1:]):
                if following is not None:
                    for views, rows in zip(self._ready, following.T, strict=False):
                        views.expect(rows)
                yield self._ready_pairs(batch, *self._ready)
            return
        for pairs in _loader(_PairViews(self.ground, self.aerial), worker_count(self.jobs), batches, _collate):
            self._report(pairs.failures)
            yield pairs

    @staticmethod
    def _ready_pairs(
        batch: np.ndarray, ground: CachedViews | PackedViews, aerial: CachedViews | PackedViews
    ) -> PairBatch:
        panoramas, tiles, *semi = batch.T
        views = [aerial.take(np.where(rows < 0, tiles, rows))[0] for rows in (tiles, *semi)]
        return PairBatch(*ground.take(panoramas), views[0], [], batch, *views[1:])

    def single(self, kind: str, size: int) -> Iterator[tuple[np.ndarray, Tensor, Tensor | None]]:
        """All readable `ground` or `aerial` views in order: rows (b,), views (b, H, W, 3), masks (b, H, W) or None."""
        views = self.ground if kind == "ground" else self.aerial
        chunks = _chunks(len(views), size)
        if self._ready:
            ready = self._ready[0 if kind == "ground" else 1]
            for chunk in chunks:
                rows = np.array([row for row in chunk if row not in ready.broken], dtype=np.int64)
                if len(rows):
                    yield rows, *ready.take(rows)
            return
        loader = _loader(views, worker_count(self.jobs), chunks, _as_they_are)
        for chunk, items in zip(chunks, loader, strict=True):
            self._report([(item.path or "", str(item)) for item in items if isinstance(item, CvgeoError)])
            whole = [(row, item) for row, item in zip(chunk, items, strict=True) if not isinstance(item, CvgeoError)]
            if whole:
                images, masks = (np.stack([item[part] for _, item in whole]) for part in (0, 1))
                mask = None if masks.all() else torch.from_numpy(masks)
                yield np.array([row for row, _ in whole]), torch.from_numpy(images), mask


def views_size(dataset: Dataset, view: ViewConfig) -> int:
    """Bytes that the decoded views of a data set take, masks included."""
    ground = view.ground_height * view.ground_width * (3 + 1)
    return len(dataset.panoramas) * ground + len(dataset.tiles) * view.aerial_height * view.aerial_width * 3


def dataset_fingerprint(dataset: Dataset) -> str:
    """SHA-256 over what a data set says and the sizes of its pictures: 64 hexadecimal digits.

    Paths count relative to the data set's folder, so that a moved data set is still the same.
    """
    digest = hashlib.sha256(json.dumps([asdict(dataset.conventions)]).encode())
    for table in (dataset.panoramas, dataset.tiles):
        for row, path in enumerate(table.path):
            size = -1
            with suppress(OSError):
                size = os.stat(path).st_size
            name = os.path.relpath(path, dataset.root)
            digest.update(f"{table.id[row]}\0{name}\0{table.split[row]}\0{size}\n".encode("utf-8", "surrogateescape"))
        for column in vars(table).values():
            if isinstance(column, np.ndarray):
                digest.update(column.tobytes())
    for column in vars(dataset.pairs).values():
        digest.update(column.tobytes())
    return digest.hexdigest()


def item_batches(views: TorchDataset, size: int, jobs: int, item_bytes: int = 0) -> Iterator[list[Any]]:
    """All items of a data set in order, `size` at a time, as they are, decoded by `jobs` workers (0: one a core).

    Of items of `item_bytes` no more wait than the memory limit has room for.
    """
    workers = worker_count(jobs)
    waiting = at_most(AHEAD * max(1, workers), size * item_bytes, 0.25)
    workers = min(workers, waiting)
    ahead = waiting // max(1, workers)
    yield from _loader(views, workers, _chunks(len(views), size), _as_they_are, ahead)
