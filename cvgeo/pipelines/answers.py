"""What an evaluation looks at: the panoramas of a split as queries, and the tiles that they are searched among."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cvgeo.data.conventions import TOLERANCE, tile_metres, warn_of_unknown_views
from cvgeo.data.missing import without_missing
from cvgeo.data.readers import open_dataset
from cvgeo.data.schema import Dataset, Panoramas, Tiles
from cvgeo.data.views import GroundViews, WindowedViews
from cvgeo.errors import InputError
from cvgeo.losses import OffsetRegressionLoss
from cvgeo.models import Embedder
from cvgeo.pipelines.azimuth import AzimuthFinder
from cvgeo.pipelines.embed import EmbedOptions, Source, embed_source, header_of, turns_tried
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.heading import Scorer, choose_scorer

SPLITS = ("test", "val")
FULL_TURN = 360.0


@dataclass
class EvaluateOptions:
    """The protocol. `heading_unknown`: each panorama is turned by a random angle and searched at all headings.

    `hfov`: of each panorama a window of so many degrees in a random direction is kept. `calibrate` fits probabilities
    at several fields of view (at `hfov` alone where it is given), and writes them beside the checkpoint.
    `calibrate_heading` measures how uncertain the headings are, and writes it into the checkpoint. `azimuth`: headings
    are found by this model's azimuth columns. `distractors`: the tiles of this data set stand in every gallery, too.
    `both_ways`: tiles are searched among the panoramas as well.
    """

    split: str | None = None
    within_source: bool = False
    heading_unknown: bool = False
    headings: int | None = None
    seed: int = 0
    hfov: float | None = None
    calibrate: bool = False
    calibrate_heading: bool = False
    azimuth: str | None = None
    distractors: str | None = None
    both_ways: bool = False


@dataclass
class Queries:
    """Panoramas that were embedded: rows of the data set's table, their descriptors, and the angle each was turned."""

    rows: np.ndarray
    scorer: Scorer
    turned: np.ndarray
    turns: int
    hfov: np.ndarray

    def part(self, some: np.ndarray) -> Scorer:
        """A scorer over some of the queries."""
        return self.scorer.take(some)


@dataclass
class Answers:
    """Everything that an evaluation looks at: data, gallery store, queries, and which tile is which row.

    `head` predicts where in a tile a panorama stands, for models that were trained to. `azimuth` finds headings by
    another model, in whose eyes `azimuth_queries` are the queries. The last `distractors` tiles are another data set's.
    """

    data: Dataset
    store: EmbeddingStore
    queries: Queries
    head: OffsetRegressionLoss | None = None
    azimuth: AzimuthFinder | None = None
    azimuth_queries: Queries | None = None
    distractors: int = 0
    tile_row: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        at = {id: row for row, id in enumerate(self.store.columns.id)}
        self.tile_row = np.array([at.get(id, -1) for id in self.data.tiles.id], dtype=np.int64)


def choose_split(data: Dataset, wanted: str | None, reporter: Reporter) -> Dataset:
    """The split asked for, else test, else val, else all. Raises InputError for one that is not there or is empty."""
    names = data.splits()
    if wanted is None:
        wanted = next((name for name in SPLITS if name in names), None)
        if len(names) > 1:
            reporter.note(f"evaluating the split {wanted}" if wanted else "evaluating all splits together")
    elif wanted not in names:
        raise InputError(
            f"no split {wanted!r}", path=data.root, mend=f"it has these splits: {', '.join(names) or 'none'}"
        )
    part = data.subset(wanted)
    if not len(part.pairs):
        raise InputError(f"the split {wanted!r} has no pairs", path=data.root, mend="name another one with --split")
    return part


def with_distractors(
    data: Dataset, reference: str | None, skip_missing: bool, reporter: Reporter
) -> tuple[Dataset, int]:
    """The data set with the tiles of another one (None: of none) behind its own, and how many they are.

    Raises InputError where these are not there. Warns where they show more or less ground: such tiles are told from
    the others by that alone.
    """
    if reference is None:
        return data, 0
    more = without_missing(open_dataset(reference), skip_missing, reporter, ("aerial",))
    if not len(more.tiles):
        raise InputError("has no tiles to search among", path=more.root, mend="cut some with cvgeo build-dataset tiles")
    own, theirs = tile_metres(data.tiles), tile_metres(more.tiles)
    if own and theirs and not (theirs[0] <= own[1] * TOLERANCE and theirs[1] >= own[0] / TOLERANCE):
        sizes = f"{theirs[0]:.3g} m of ground, those of {data.name} {own[0]:.3g} m"
        reporter.warn(f"{reference}: its tiles show {sizes}: they are too easy to tell apart")
    tiles = replace(more.tiles, id=[f"{more.name}/{id}" for id in more.tiles.id])
    return replace(data, tiles=Tiles.joined([data.tiles, tiles])), len(tiles)


def _turned(panoramas: Panoramas, angles: np.ndarray) -> Panoramas:
    return replace(panoramas, column0_heading=(panoramas.column0_heading + angles) % FULL_TURN)


def _variants(panoramas: Panoramas, count: int) -> Panoramas:
    """Each panorama `count` times, at headings equally spaced around the circle."""
    rows = np.repeat(np.arange(len(panoramas)), count)
    steps = np.tile(np.arange(count) * FULL_TURN / count, len(panoramas))
    table = _turned(panoramas.take(rows), steps)
    return replace(table, id=[f"{id}@{step:g}" for id, step in zip(table.id, steps, strict=True)])


def embed_queries(
    data: Dataset,
    model: Embedder,
    store_path: Path,
    reference: tuple[str, str],
    options: EvaluateOptions,
    embedding: EmbedOptions,
    reporter: Reporter,
) -> Queries:
    """The panoramas of a data set as queries, as the options have them; their embeddings are kept in a store.

    Those of unknown heading are turned by random angles where `heading_unknown`, and of each `hfov` degrees are kept.
    """
    count = len(data.panoramas)
    unknown = np.isnan(data.panoramas.column0_heading)
    warn_of_unknown_views(data.panoramas, reporter, heading=not options.heading_unknown)
    start = np.where(unknown, model.config.view.column0_heading, data.panoramas.column0_heading)
    table = replace(data.panoramas, column0_heading=start)
    turned = np.zeros(count)
    if options.heading_unknown:
        turned = np.random.default_rng(options.seed).uniform(0, FULL_TURN, count)
        table = _turned(table, turned)
    left = table.column0_heading + _window_starts(data.panoramas, options)
    turned = np.where(unknown, np.nan, turned)
    rolls = options.heading_unknown and model.rolls
    variants = turns_tried(model, options.headings) if options.heading_unknown else 1
    if variants > 1:
        table = _variants(table, variants)
        left = (left[:, None] + np.arange(variants) * FULL_TURN / variants).ravel()
    views = GroundViews(table, model.config.view, data.conventions)
    shown = views if options.hfov is None else WindowedViews(views, left, options.hfov)
    source = Source(table, shown, data.conventions)
    header = header_of(model, *reference, "ground", data.conventions)
    embed_source(source, model, header, store_path, embedding, reporter)
    with EmbeddingStore(store_path) as store:
        at = {id: row for row, id in enumerate(store.columns.id)}
        found = np.array([at.get(id, -1) for id in table.id], dtype=np.int64).reshape(count, variants)
        rows = np.flatnonzero((found >= 0).all(axis=1))
        descriptors = store.fetch(found[rows].ravel()).reshape(len(rows), variants, model.descriptor_size)
    scorer = choose_scorer(descriptors, model.azimuth_columns, rolls, model.crops)
    hfov = np.minimum(np.nan_to_num(data.panoramas.hfov, nan=FULL_TURN), options.hfov or FULL_TURN)
    return Queries(rows, scorer, turned, model.azimuth_columns if rolls else variants, hfov)


def _window_starts(panoramas: Panoramas, options: EvaluateOptions) -> np.ndarray:
    """Degrees (N,) from each panorama's left edge to that of the window that is kept, within what it shows."""
    spans = np.where(np.isnan(panoramas.hfov), FULL_TURN, panoramas.hfov)
    room = np.where(spans >= FULL_TURN, FULL_TURN, np.maximum(spans - (options.hfov or FULL_TURN), 0))
    return np.random.default_rng([options.seed, 1]).uniform(0, 1, len(panoramas)) * room
