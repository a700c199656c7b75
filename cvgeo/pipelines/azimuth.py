"""Headings of pictures within a shortlist of tiles: azimuth maps compared at every turn.

The shortlist comes from any model's descriptor; the maps are the descriptors of a model of azimuth columns. They are a
data set of the store, or are made from the pictures of the tiles that are asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvgeo.data.images import read_image
from cvgeo.data.views import aerial_view
from cvgeo.errors import CvgeoError, MismatchError
from cvgeo.pipelines.embed import AzimuthModel, describe, load_azimuth_model
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.heading import Scorer, choose_scorer
from cvgeo.retrieval.peaks import best_turn, heading_sd, seen_share
from cvgeo.training.checkpoint import heading_sharpness

AT_ONCE = 32


class AzimuthFinder:
    """The azimuth maps of a store's tiles, and the model that reads them.

    Args:
        store: of tiles.
        azimuth: the model.
        reporter: is told once of each tile of which no map can be made.

    Raises MismatchError where the store's maps were made by another model.
    """

    def __init__(self, store: EmbeddingStore, azimuth: AzimuthModel, reporter: Reporter):
        self.store, self.azimuth, self.reporter = store, azimuth, reporter
        self.sharpness = heading_sharpness(azimuth.reference)
        header = store.header
        self._kept = header.azimuth_dimension > 0
        if self._kept and header.azimuth_fingerprint != azimuth.fingerprint:
            fault = f"its azimuth maps were made by another model than {azimuth.reference}"
            raise MismatchError(fault, path=store.path, mend=f"name that model: {header.azimuth_model}")
        self._made: dict[int, np.ndarray] = {}

    def scorer(self, descriptors: np.ndarray) -> Scorer:
        """What compares the azimuth maps (Q, M) of pictures at every turn."""
        model = self.azimuth.model
        return choose_scorer(descriptors[:, None], model.azimuth_columns, True, model.crops)

    def curves(self, scorer: Scorer, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Scores (P, A) of pairs (query number, row of the store) at every turn; NaN for a tile without a map."""
        return self.compare(scorer, query, self.maps(rows))

    @staticmethod
    def compare(scorer: Scorer, query: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """The same of pairs (query number, map (P, M))."""
        curves = scorer.curves(query, np.nan_to_num(maps))
        curves[np.isnan(maps).any(axis=1)] = np.nan
        return curves

    def maps(self, rows: np.ndarray) -> np.ndarray:
        """Azimuth maps (P, M) of rows of the store; NaN where a tile's picture is not there any more."""
        if self._kept:
            return self.store.fetch_azimuth(rows)
        missing = [row for row in np.unique(rows).tolist() if row not in self._made]
        for start in range(0, len(missing), AT_ONCE):
            self._make(missing[start : start + AT_ONCE])
        return np.stack([self._made[row] for row in rows.tolist()])

    def _make(self, rows: list[int]) -> None:
        model, views = self.azimuth.model, {}
        for row in rows:
            path = self.store.file_of(row)
            view = self._view(path)
            if view is not None:
                views[row] = view, np.ones(view.shape[:2], dtype=bool)
        self._made |= dict.fromkeys(rows, np.full(model.descriptor_size, np.nan, np.float32))
        if views:
            # As precise as a store keeps them.
            made = describe(model, "aerial", list(views.values())).astype(np.float16).astype(np.float32)
            self._made |= dict(zip(views, made, strict=True))

    def _view(self, path: Path) -> np.ndarray | None:
        try:
            return aerial_view(read_image(path), self.azimuth.model.config.view)
        except CvgeoError as error:
            error.path = error.path or str(path)
            self.reporter.warn(f"{error}: no heading from this tile")
            return None


def azimuth_finder(
    store: EmbeddingStore, reference: str | None, weights: str | None, device: str, reporter: Reporter
) -> AzimuthFinder | None:
    """The finder for a store: with the model named, else with that of the store's maps; None without either."""
    header = store.header
    reference, weights = reference or header.azimuth_model, weights or header.azimuth_weights or None
    if not reference:
        return None
    return AzimuthFinder(store, load_azimuth_model(reference, weights, device), reporter)


def headings_of(curves: np.ndarray, hfov: np.ndarray | float, sharpness: float) -> tuple[np.ndarray, np.ndarray]:
    """Turns and their uncertainty, (P,) and (P,) degrees, of curves (P, T) of pictures of a field of view; NaN where a
    curve is.
    """
    known = ~np.isnan(curves).any(axis=1)
    share = np.broadcast_to(seen_share(hfov), len(curves))
    turns, sds = np.full((2, len(curves)), np.nan)
    turns[known], sds[known] = best_turn(curves[known]), heading_sd(curves[known], share[known], sharpness)
    return turns, sds
