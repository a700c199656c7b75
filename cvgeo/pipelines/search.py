"""`cvgeo search`: where pictures were taken, by the tiles of a store that match best."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np

from cvgeo.data.conventions import check_conventions, span
from cvgeo.data.ground import read_ground
from cvgeo.data.sources.geotags import StatedPose
from cvgeo.data.views import coarsen
from cvgeo.errors import CvgeoError, InputError, MismatchError, UsageError
from cvgeo.geometry.areas import Area, Box
from cvgeo.models import Embedder, fingerprint
from cvgeo.pipelines.azimuth import azimuth_finder, headings_of
from cvgeo.pipelines.calibrate import NEIGHBOURS, Calibration
from cvgeo.pipelines.embed import describe, last_store, load_model, turns_tried
from cvgeo.pipelines.found import FULL_TURN, Described, Found, Hit
from cvgeo.pipelines.index import choose_index, close_index, searching
from cvgeo.pipelines.pictures import GroundPicture, ground_files, read_ground_picture, view_of
from cvgeo.pipelines.refine import CANDIDATES, Refiner
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.fusion import FusedScorer
from cvgeo.retrieval.heading import Scorer, choose_scorer
from cvgeo.retrieval.locate import SHARPNESS, error_ellipses, place_weights
from cvgeo.retrieval.probability import Fit, LogSums, place_probabilities
from cvgeo.training.checkpoint import find_checkpoint, heading_sharpness, trained_conventions

TOGETHER = 32
SHORTLIST = 1000
SHORTLIST_BY_INDEX = 100
Tiles = Callable[[bool], np.ndarray]  # descriptors of tiles, by the azimuth model or by the store's
NO_SUMS = "probabilities are those of an exact search for single pictures: none are told"


@dataclass
class SearchOptions:
    """What is known of the pictures, and how they are searched.

    `stated` is told of all pictures and counts more than what each tells of itself. `headings` is how many are tried
    for a picture of unknown heading where the model's descriptor cannot be rolled; None takes as many as it has
    azimuth columns, else 16. `azimuth` is the model that finds headings in the best places by azimuth maps; by default
    that of the store's maps, if it has any. `areas` are where the pictures were taken for certain: tiles whose centre
    lies outside of one are left out. `same_place` takes all pictures of a call for pictures of one place. `index` is
    auto, exact, faiss or milvus (at the URI `milvus`). A picture whose best place is less probable than
    `min_probability` is not placed. `refine` is imagery from which finer tiles are cut around the best places, of which
    there are `candidates`.
    """

    k: int = 5
    stated: StatedPose = field(default_factory=StatedPose)
    headings: int | None = None
    device: str = "auto"
    allow_mismatch: bool = False
    azimuth: str | None = None
    areas: Sequence[Area] = ()
    same_place: bool = False
    index: str = "auto"
    milvus: str | None = None
    min_probability: float | None = None
    refine: str | None = None
    candidates: int = CANDIDATES


class Searcher:
    """A store and the model that made it, ready for pictures.

    Raises MismatchError where the model is not the one that made the store, InputError for a store that is empty.
    """

    def __init__(
        self,
        store: str | None,
        model: str | None,
        weights: str | None,
        options: SearchOptions,
        reporter: Reporter,
    ):
        self.options, self.reporter = options, reporter
        path = Path(store) if store is not None else last_store()
        if store is None:
            reporter.note(f"searching {path}, the store made last")
        reporter.now(f"reading {path}")
        self.store = EmbeddingStore(path)
        header = self.store.header
        if not len(self.store):
            raise InputError("holds no rows", path=path, mend="fill it with cvgeo embed")
        if header.view != "aerial":
            raise MismatchError(f"holds {header.view} views", path=path, mend="name a store of aerial tiles")
        self.model = self._matching_model(model or header.model, weights or header.weights or None)
        self.azimuth = azimuth_finder(self.store, options.azimuth, weights, options.device, reporter)
        self.rows = self._within(options.areas)
        reporter.now("opening the index")
        self.index = choose_index(self.store, options.index, options.milvus, reporter)
        self.calibration = Calibration.of(model or header.model, header.fingerprint)
        self._told: set[str] = set()
        if options.min_probability is not None:
            self._require_probabilities()
        self.refiner = None if options.refine is None else Refiner(options.refine, self.model)

    def _require_probabilities(self) -> None:
        """Raise UsageError where no picture can get a probability."""
        if not self.calibration.entries:
            raise UsageError(f"--min-probability: {self.calibration.lack(FULL_TURN, True)}")
        if self.index is not None or self.options.same_place:
            raise UsageError(f"--min-probability: {NO_SUMS}", mend="leave --same-place away, and add --index exact")

    def _within(self, areas: Sequence[Area]) -> np.ndarray | None:
        """The rows (n,) whose tiles lie in all areas, ascending; None for all."""
        if not areas:
            return None
        self.require_positions("so no area says which to search")
        columns, path = self.store.columns, self.store.path
        inside = np.logical_and.reduce([area.contains(columns.lat, columns.lon) for area in areas])
        if not inside.any():
            box = Box.around(columns.lat, columns.lon)
            mend = f"give a wider area; they lie in {box} (S,W,N,E; in GeoJSON longitude comes first)"
            raise InputError(f"none of its {len(self.store)} tiles lies in the area", path=path, mend=mend)
        return np.flatnonzero(inside)

    @cached_property
    def box(self) -> Box:
        """Where the tiles lie that are searched."""
        some = slice(None) if self.rows is None else self.rows
        return Box.around(self.store.columns.lat[some], self.store.columns.lon[some])

    def _say_astray(self, found: Found) -> None:
        """Warn of a picture that says it was taken where no tile is."""
        if any(map(math.isnan, found.truth)) or np.isnan(self.store.columns.lat).all():
            return
        found.beyond_m = self.box.beyond_m(*found.truth)
        if found.astray:
            self.reporter.warn(f"{found.picture.path}: {found.astray}: none of them shows the place")

    def require_positions(self, consequence: str) -> None:
        """Raise InputError where no tile of the store has a position."""
        if np.isnan(self.store.columns.lat).all():
            fault = f"its tiles have no positions, {consequence}"
            raise InputError(fault, path=self.store.path, mend="embed a data set, or tiles whose names tell positions")

    def _matching_model(self, reference: str, weights: str | None) -> Embedder:
        header, path = self.store.header, self.store.path
        if not reference:
            raise UsageError("the store does not say which model made it", path=path, mend="name it with --model")
        self.reporter.now(f"loading {reference}")
        if reference == header.model:
            self._require_model(reference)
        model, _, _ = load_model(reference, weights, self.options.device)
        self.sharpness = heading_sharpness(reference)
        if fingerprint(model) != header.fingerprint:
            fault = f"was made by another model than {reference}"
            if reference == header.model:
                fault = f"was made by {reference} as it was then, with other weights"
            raise MismatchError(fault, path=path, mend="embed again with this model, or name the store's with --model")
        trained, given = trained_conventions(reference), {"tile_metres": span(self.store.columns.ground_m)}
        for view in ("aerial", "ground"):
            check_conventions(trained, given, view, path, self.options.allow_mismatch, self.reporter)
            trained = trained or None  # told once that it does not say
        return model

    def _require_model(self, reference: str) -> None:
        """Raise InputError where the model that the store names, and not the user, is not there any more."""
        try:
            find_checkpoint(reference)
        except InputError as error:
            fault = f"the model that made it, {reference}, is not there any more"
            raise InputError(fault, path=self.store.path, mend="name it with --model") from error

    def close(self) -> None:
        """Let go of the store, its index, and the imagery."""
        close_index(self.index)
        self.store.close()
        if self.refiner is not None:
            self.refiner.close()

    def find(self, pictures: list[GroundPicture]) -> list[Found]:
        """The best places of pictures; one that cannot be read is reported and left out."""
        self.reporter.now("looking at the pictures" if len(pictures) > 1 else "looking at the picture")
        described = [one for picture in pictures if (one := self._describe(picture)) is not None]
        if not described:
            return []
        self.reporter.now(f"searching {len(self.store):,} tiles")
        founds = [self._fused(described)] if self.options.same_place else self._each(described)
        for found in founds:
            self._complete(found)
        return founds

    def _complete(self, found: Found) -> None:
        """From the shortlist to hits with all that is known of them, in order."""
        self._place(found)
        self._look(found)
        self._weigh(found)
        self._add_probabilities(found)
        self._refine(found)
        self._say_astray(found)
        found.hits = found.hits[: self.options.k]

    def _tried_headings(self, picture: GroundPicture) -> list[float]:
        """Headings of the centre column at which the picture is embedded."""
        heading = picture.tag.heading
        if not np.isnan(heading):
            return [heading]
        count = turns_tried(self.model, self.options.headings)
        return [FULL_TURN * turn / count for turn in range(count)]

    def _describe(self, picture: GroundPicture) -> Described | None:
        """A picture's descriptors at its tried headings; None where it cannot be read."""
        centres = self._tried_headings(picture)
        view = self.model.config.view
        try:
            image = read_ground(picture.path, picture.tag.projection)
            if len(centres) > 1:
                image = coarsen(image, view, picture.tag.camera())
            views = [view_of(picture, image, centre, view) for centre in centres]
            return Described(picture, describe(self.model, "ground", views))
        except CvgeoError as error:
            error.path = error.path or str(picture.path)
            self.reporter.fail(str(picture.path), str(error))
            return None

    def _scorer(self, described: list[Described]) -> Scorer:
        """What scores pictures whose headings are all known, or all unknown."""
        descriptors, rolls = np.stack([one.descriptors for one in described]), described[0].unknown and self.model.rolls
        return choose_scorer(descriptors, self.model.azimuth_columns, rolls, self.model.crops)

    def _scorer_of(self, found: Found) -> Scorer:
        """What scores the pictures of one place, as one query."""
        return self._fused_scorer(found.described) if found.fused else self._scorer(found.described)

    def _fused_scorer(self, described: list[Described]) -> FusedScorer:
        kinds = ([one for one in described if one.unknown == unknown] for unknown in (False, True))
        return FusedScorer([self._scorer(kind) for kind in kinds if kind])

    def _shortlist(self, scorer: Scorer, sums: LogSums | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Rows of the store and scores (Q, S) of the best tiles; an exact search adds all scores to the sums."""
        # Several pictures have no single descriptor that an index could look for.
        index = None if isinstance(scorer, FusedScorer) else self.index
        count = max(self.options.k, SHORTLIST if index is None else SHORTLIST_BY_INDEX)
        return searching(self.store, index, self.rows, sums)(scorer, count)

    def _tell(self, text: str) -> None:
        """Note what holds for many pictures, once."""
        if text not in self._told:
            self._told.add(text)
            self.reporter.note(text)

    def _fit(self, one: Described) -> Fit | None:
        """The calibration for a picture; what one that is there lacks for it is told."""
        asked = one.picture.tag.hfov, not one.unknown
        lack = self.calibration.lack(*asked)
        if lack is not None and self.calibration.entries:
            self._tell(lack)
        return self.calibration.fit_for(*asked)

    def _each(self, described: list[Described]) -> list[Found]:
        """The shortlist of each picture."""
        found: dict[int, Found] = {}
        for unknown in (False, True):
            some = [number for number, one in enumerate(described) if one.unknown == unknown]
            if some:
                found |= zip(some, self._listed([described[number] for number in some]), strict=True)
        return [found[number] for number in sorted(found)]

    def _listed(self, described: list[Described]) -> list[Found]:
        """The shortlist of each of some pictures whose headings are all known, or all unknown."""
        fits = [self._fit(one) for one in described]
        sharpness = np.array([SHARPNESS if fit is None else fit.sharpness for fit in fits])
        sums = None if self.index is not None or not any(fits) else LogSums(sharpness[:, None])
        lists = self._shortlist(self._scorer(described), sums)
        found = [
            Found([one], rows, scores, place_weights(scores, each), float(each))
            for one, rows, scores, each in zip(described, *lists, sharpness, strict=True)
        ]
        if sums is not None:
            for one, fit, log_sum in zip(found, fits, sums.values()[:, 0].tolist(), strict=True):
                one.fit, one.log_sum = fit, log_sum
        elif any(fits):
            self._tell(NO_SUMS)
        return found

    def _fused(self, described: list[Described]) -> Found:
        """The shortlist of several pictures of one place."""
        fits = [self._fit(one) for one in described]
        if any(fits):
            self._tell(NO_SUMS)
        # The log-likelihoods of the pictures add up, and a score is their mean.
        sharpness = sum(SHARPNESS if fit is None else fit.sharpness for fit in fits)
        (rows,), (scores,) = self._shortlist(self._fused_scorer(described))
        return Found(described, rows, scores, place_weights(scores, sharpness), sharpness, fused=True)

    def _place(self, found: Found) -> None:
        """The first of the shortlist as hits, all candidates of a refinement among them."""
        columns, count = self.store.columns, max(self.options.k, self.options.candidates if self.refiner else 0)
        found.hits = [
            Hit(row, score, float(columns.lat[row]), float(columns.lon[row]))
            for row, score in zip(found.rows[:count].tolist(), found.scores.tolist(), strict=False)
        ]

    def _look(self, found: Found) -> None:
        """The headings of the pictures in each hit."""
        rows = found.rows[: len(found.hits)]
        self._add_headings(
            found, found.hits, lambda azimuth: (self.azimuth.maps if azimuth else self.store.fetch)(rows)
        )

    def _add_headings(self, found: Found, hits: list[Hit], tiles: Tiles) -> None:
        """The headings of the pictures in some hits, by descriptors (K, D) of the hits' tiles."""
        looks = []
        for one in found.described:
            turns, sds = self._turns(one, tiles)
            looks.append((np.add(0.0 if one.unknown else one.picture.tag.heading, turns) % FULL_TURN, sds))
        for number, hit in enumerate(hits):
            hit.headings = [float(headings[number]) for headings, _ in looks]
            hit.heading, hit.heading_sd = hit.headings[0], float(looks[0][1][number])

    def _turns(self, one: Described, tiles: Tiles) -> tuple[np.ndarray, np.ndarray]:
        """By how much a picture of unknown heading is turned where tiles (K,) fit best, and how uncertain that is."""
        picture, by_azimuth = one.picture, self.azimuth is not None and one.unknown
        described = tiles(by_azimuth)
        query = np.zeros(len(described), int)
        if by_azimuth:
            view = self.azimuth.azimuth.model.config.view
            image = read_ground(picture.path, picture.tag.projection)
            own = describe(self.azimuth.azimuth.model, "ground", [view_of(picture, image, 0.0, view)])
            curves = self.azimuth.compare(self.azimuth.scorer(own), query, described)
            sharpness = self.azimuth.sharpness
        else:
            curves, sharpness = self._scorer([one]).curves(query, described), self.sharpness
        return headings_of(curves, picture.tag.hfov, sharpness)

    def _weigh(self, found: Found) -> None:
        """The error ellipses of the hits."""
        columns = (getattr(self.store.columns, name)[found.rows] for name in ("lat", "lon", "ground_m"))
        ellipses = error_ellipses(np.arange(len(found.hits)), *columns, found.weights)
        for number, hit in enumerate(found.hits):
            for name in ("major_m", "minor_m", "azimuth"):
                setattr(hit, name, float(getattr(ellipses, name)[number]))

    def _add_probabilities(self, found: Found) -> None:
        """That each hit shows the place and that no tile does, and whether that is too little to place the picture."""
        if found.fit is None:
            return
        searched = len(self.store) if self.rows is None else len(self.rows)
        some, log_sum = slice(max(self.options.k, NEIGHBOURS)), np.array([found.log_sum])
        columns, rows = self.store.columns, found.rows[some]
        found.none = float(found.fit.none_probability(log_sum, searched)[0])
        shares = found.fit.shares(found.scores[None, some], log_sum, searched)[0]
        places = place_probabilities(shares, columns.lat[rows], columns.lon[rows], columns.ground_m[rows])
        for hit, probability in zip(found.hits, places.tolist(), strict=False):
            hit.probability = probability
        found.abstains = bool(places[0] < (self.options.min_probability or 0.0))

    def _refine(self, found: Found) -> None:
        """Move the best place to where finer tiles fit best; what cannot be refined is told of and stays."""
        if self.refiner is None or found.abstains:
            return
        hits = [hit for hit in found.hits[: self.options.candidates] if not np.isnan(hit.lat)]
        sides = self.store.columns.ground_m[[hit.row for hit in hits]]
        if not len(hits) or np.isnan(sides[0]):
            self.reporter.note(f"{found.title}: tiles without position or size cannot be refined")
            return
        lat, lon = (np.array([getattr(hit, name) for hit in hits]) for name in ("lat", "lon"))
        side = float(sides[0])
        self.reporter.now(f"refining the place of {found.title}")
        try:
            place = self.refiner.refine(self._scorer_of(found), lat, lon, side, found.sharpness)
        except InputError as error:
            self.reporter.note(f"{found.title}: not refined: {error}")
            return
        ordered = [hits[number] for number in place.order]
        found.hits = ordered + [hit for hit in found.hits if all(hit is not one for one in ordered)]
        for name in ("lat", "lon", "score", "major_m", "minor_m", "azimuth"):
            setattr(ordered[0], name, getattr(place, name))
        self._look_again(found, ordered[0], side)

    def _look_again(self, found: Found, hit: Hit, side: float) -> None:
        """The headings of the pictures in the tile around a refined place."""

        def tiles(azimuth: bool) -> np.ndarray:
            model = self.azimuth.azimuth.model if azimuth else None
            described, shown = self.refiner.descriptors(np.array([hit.lat]), np.array([hit.lon]), side, model)
            return np.where(shown[:, None], described, np.nan)

        before = hit.headings, hit.heading, hit.heading_sd
        self._add_headings(found, [hit], tiles)
        if np.isnan(hit.heading):  # too near to the border of the imagery
            hit.headings, hit.heading, hit.heading_sd = before


def find_places(names: Iterable[str], searcher: Searcher, reporter: Reporter, together: int) -> Iterator[Found]:
    """The places of pictures and of folders of pictures, as they come, `together` at a time.

    Pictures that cannot be read are reported and the rest is done.
    """
    paths = ground_files(names, searcher.options.stated, reporter)
    if searcher.options.same_place:
        yield from searcher.find(_read(paths, searcher, reporter))
        return
    while batch := list(islice(paths, together)):
        yield from searcher.find(_read(batch, searcher, reporter))


def _read(paths: Iterable[Path], searcher: Searcher, reporter: Reporter) -> list[GroundPicture]:
    """What the pictures tell; those that cannot be read are reported."""
    pictures = []
    for path in paths:
        try:
            pictures.append(read_ground_picture(path, reporter, searcher.options.stated))
        except CvgeoError as error:
            reporter.fail(str(path), str(error))
    return pictures
