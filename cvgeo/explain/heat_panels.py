"""From maps on a model's feature grids to the panels of a sheet and to the north-up tile.

Whatever the model's own view sizes are, all maps are shown on the same panels, so that rows compare.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cvgeo.config.schema import ViewConfig
from cvgeo.explain.heat import enlarge, overlay
from cvgeo.explain.heat_sheet import SIDE, WIDE, Panels, draw_marks
from cvgeo.geometry.polar import inverse_polar_transform, polar_places, polar_transform


@dataclass
class Marks:
    """A node and where it samples, as fractions of the view: `node` (2,), each of `groups` (K, 2), row and column."""

    node: np.ndarray
    groups: list[np.ndarray] = field(default_factory=list)


@dataclass
class ModelMaps:
    """One model's maps of a pair on its feature grids, 0..1: `ground` (h, w), `aerial` (h', w')."""

    ground: np.ndarray
    aerial: np.ndarray
    ground_marks: Marks | None = None
    aerial_marks: Marks | None = None


def tile_values(maps: ModelMaps, view: ViewConfig, size: int) -> np.ndarray:
    """The aerial map on the north-up tile, (size, size) float32; 0 where a polar map does not reach."""
    if view.aerial != "polar":
        return enlarge(maps.aerial, size, size, wraps=False)
    polar = enlarge(maps.aerial, view.aerial_height, view.aerial_width, wraps=True)
    return inverse_polar_transform(polar, size, view.polar_convention, view.column0_heading)


def _turned(values: np.ndarray, own: float, shown: float) -> np.ndarray:
    # Maps of a model whose column 0 looks elsewhere than the panel's.
    return np.roll(values, -round((shown - own) / 360 * values.shape[1]), axis=1)


def map_panels(maps: ModelMaps, view: ViewConfig, pictures: Panels, column0_heading: float) -> Panels:
    """A model's maps over the pictures; `column0_heading` in degrees is that of the pictures' panels."""
    own = view.column0_heading
    ground = _turned(enlarge(maps.ground, SIDE, WIDE, wraps=True), own, column0_heading)
    tile = tile_values(maps, view, SIDE)
    if view.aerial == "polar":
        polar = _turned(enlarge(maps.aerial, SIDE, WIDE, wraps=True), own, column0_heading)
    else:
        polar = polar_transform(tile, SIDE, WIDE, column0_heading=column0_heading)
    panels = Panels(overlay(pictures.ground, ground), overlay(pictures.polar, polar), overlay(pictures.tile, tile))
    return _with_marks(panels, maps, view, (own - column0_heading) / 360)


def _with_marks(panels: Panels, maps: ModelMaps, view: ViewConfig, turn: float) -> Panels:
    if maps.ground_marks is not None:
        panels.ground = _marked(panels.ground, maps.ground_marks, turn)
    if maps.aerial_marks is not None:
        if view.aerial == "polar":
            panels.polar = _marked(panels.polar, maps.aerial_marks, turn)
        panels.tile = _marked(panels.tile, _on_tile(maps.aerial_marks, view))
    return panels


def _on_tile(marks: Marks, view: ViewConfig) -> Marks:
    """Marks of the aerial view as fractions of the north-up tile."""
    if view.aerial != "polar":
        return marks
    height, width = view.aerial_height, view.aerial_width

    def bent(places: np.ndarray) -> np.ndarray:
        index = places * (height, width) - 0.5
        grid = (1, height, width, view.polar_convention, view.column0_heading)
        return np.stack(polar_places(index[..., 0], index[..., 1], *grid), axis=-1)

    # Samples above the map's first row lie outside the tile, those below its last beyond the pole.
    inside = [places[(places[:, 0] >= 0) & (places[:, 0] <= 1)] for places in marks.groups]
    return Marks(bent(marks.node), [bent(places) for places in inside])


def _marked(panel: np.ndarray, marks: Marks, turn: float | None = None) -> np.ndarray:
    """A panel with marks; `turn` (a share of its width) for those that run around the compass."""
    size = np.array(panel.shape[:2])

    def pixels(places: np.ndarray) -> np.ndarray:
        if turn is not None:
            places = places + (0.0, turn)
        return places * size - 0.5

    node = pixels(marks.node)
    if turn is not None:
        node[1] %= size[1]
    return draw_marks(panel, (float(node[0]), float(node[1])), [pixels(places) for places in marks.groups])
