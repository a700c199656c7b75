"""What a search has found: filled step by step by `Searcher`, and told as records."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cvgeo.explain.drawing import metres
from cvgeo.geometry.geodesy import distance_m
from cvgeo.pipelines.pictures import GroundPicture
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.probability import Fit

FULL_TURN = 360.0
FAR_M = 1000.0  # no receiver errs so much
KEPT = ("query", "probability", "none")  # of the record of a picture that is not placed


@dataclass
class Described:
    """A picture and its descriptors (V, D), at V headings where its own is unknown."""

    picture: GroundPicture
    descriptors: np.ndarray

    @property
    def unknown(self) -> bool:
        """Whether its heading is unknown."""
        return math.isnan(self.picture.tag.heading)


@dataclass
class Hit:
    """One place found for a picture; NaN is `unknown`, `row` the row in the store, -1 for none.

    `headings` are those of all pictures where several were searched as one; `heading` is the first one's. The error
    ellipse is one of `cvgeo.retrieval.locate.ellipses`: around the tile, or of a place that was refined.
    """

    row: int
    score: float
    lat: float
    lon: float
    heading: float = math.nan
    heading_sd: float = math.nan
    headings: list[float] = field(default_factory=list)
    probability: float = math.nan
    major_m: float = math.nan
    minor_m: float = math.nan
    azimuth: float = math.nan


@dataclass
class Found:
    """One picture, or several of one place, and what is known of where that is.

    `rows`, `scores` (S,) are the shortlist, best first, `weights` (S,) how much each of it counts, by `sharpness`;
    `hits` are the first of it as users see them. `fit` is the pictures' calibration and `log_sum` that of its shares
    over all rows that were searched, where probabilities can be told. `none` is the probability that the place is in
    none of these; `abstains` says that the best place is less probable than was asked for. `beyond_m` is how far the
    place that the pictures state lies outside of all that was searched.
    """

    described: list[Described]
    rows: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    sharpness: float
    hits: list[Hit] = field(default_factory=list)
    fused: bool = False
    fit: Fit | None = None
    log_sum: float = math.nan
    none: float = math.nan
    abstains: bool = False
    beyond_m: float = 0.0

    @property
    def picture(self) -> GroundPicture:
        """The picture, or the first of several."""
        return self.described[0].picture

    @property
    def truth(self) -> tuple[float, float]:
        """Latitude and longitude that the pictures themselves state, of the first that does; else NaN."""
        stated = ((one.picture.lat, one.picture.lon) for one in self.described)
        return next((place for place in stated if not any(map(math.isnan, place))), (math.nan, math.nan))

    @property
    def astray(self) -> str:
        """That none of the tiles searched is near the place that the pictures state; empty where some may be."""
        far = f"its own GPS position lies {metres(self.beyond_m)} outside of the tiles searched"
        return far if self.beyond_m > FAR_M else ""

    @property
    def title(self) -> str:
        """What to call it in a line."""
        more = len(self.described) - 1
        return self.picture.path.name + (f" and {more} more" if more else "")

    @property
    def verdict(self) -> str:
        """That the picture is not placed, and why; empty for one that is."""
        best = self.hits[0].probability
        return f"not placed: the best place has a probability of {best:.2f}" if self.abstains else ""

    def error_m(self, hit: Hit) -> float:
        """How far a hit lies from where the pictures say they were taken; NaN where one is unknown."""
        if any(map(math.isnan, (*self.truth, hit.lat, hit.lon))):
            return math.nan
        return float(distance_m(*self.truth, hit.lat, hit.lon))

    def records(self, store: EmbeddingStore) -> Iterator[dict[str, Any]]:
        """The hits as users see them; what is unknown is None. One record without a place where it abstains."""
        records = (self._record(rank, hit, store) for rank, hit in enumerate(self.hits, start=1))
        if self.abstains:
            yield {key: value if key in KEPT else None for key, value in next(records).items()}
            return
        yield from records

    def _record(self, rank: int, hit: Hit, store: EmbeddingStore) -> dict[str, Any]:
        paths = [str(one.picture.path) for one in self.described]
        record = {
            "query": paths if self.fused else paths[0],
            "rank": rank,
            "tile": store.columns.id[hit.row] if hit.row >= 0 else None,
            "score": round(hit.score, 6),
            "lat": hit.lat,
            "lon": hit.lon,
            "heading": _rounded(hit.heading, 2, FULL_TURN),
            "heading_sd": _rounded(hit.heading_sd, 2),
            "probability": _rounded(hit.probability, 4),
            "error_m": _rounded(self.error_m(hit), 2),
            "none": _rounded(self.none, 4),
            "ellipse_major_m": _rounded(hit.major_m, 2),
            "ellipse_minor_m": _rounded(hit.minor_m, 2),
            "ellipse_azimuth": _rounded(hit.azimuth, 1),
        }
        if self.fused:
            record["headings"] = [_rounded(heading, 2, FULL_TURN) for heading in hit.headings]
        return record


def _rounded(value: float, digits: int, turn: float = math.inf) -> float | None:
    return None if math.isnan(value) else round(value, digits) % turn if turn < math.inf else round(value, digits)
