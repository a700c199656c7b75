"""The conventions that travel with data set, checkpoint and store, and the one table of what is compared where.

| convention | data set to checkpoint | checkpoint to data set (embed, evaluate) | to store and query (search) |
|---|---|---|---|
| metres of ground of a tile | recorded, unknown: warning | refused beyond 10 % | refused beyond 10 % |
| fit, with ground_rows | recorded | refused where another is stated | stretch: warning |
| panoramas at tile centres | recorded | warning | - |
| polar or plain tiles, polar convention, column 0, sizes, normalisation | the model's | its own views | fingerprint |

A preset that was never trained has no conventions to differ from. What one side does not know is warned of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cvgeo.data.images import image_size
from cvgeo.data.schema import Dataset, Panoramas, Tiles
from cvgeo.errors import CvgeoError, MismatchError
from cvgeo.report import Reporter

TOLERANCE = 1.1  # of the ground that a tile covers
SAMPLE = 32
MIDDLE_HALF = 0.5  # of a sphere's rows: what the canonical grid covers


@dataclass(frozen=True)
class Finding:
    """Two conventions that differ (`mend` says how to convert) or of which one is unknown (`refused` False)."""

    text: str
    mend: str = ""
    refused: bool = False


Judge = Callable[[dict[str, Any], dict[str, Any]], Finding | None]


def tile_metres(tiles: Tiles) -> list[float] | None:
    """Least and greatest side in metres of the ground that tiles cover, from a sample; None where it is unknown."""
    known = np.flatnonzero(~np.isnan(tiles.gsd_m))
    sides = []
    for row in known[np.unique(np.linspace(0, len(known) - 1, SAMPLE).astype(int))] if len(known) else ():
        try:
            sides.append(float(tiles.gsd_m[row]) * min(image_size(tiles.path[row])))
        except CvgeoError:
            continue  # told of when it is read
    return span(np.array(sides))


def span(sides: np.ndarray) -> list[float] | None:
    """[least, greatest] of the known numbers, None where there are none."""
    sides = sides[~np.isnan(sides)]
    return [round(float(sides.min()), 3), round(float(sides.max()), 3)] if len(sides) else None


def warn_of_unknown_views(panoramas: Panoramas, reporter: Reporter, heading: bool = True) -> None:
    """Say how many panoramas have no known field of view and, with `heading`, no known heading, and what is done."""
    angles = {"hfov": "field of view and are taken to go all around"}
    if heading:
        angles["column0_heading"] = "heading and are taken as they lie"
    for name, text in angles.items():
        if unknown := int(np.isnan(getattr(panoramas, name)).sum()):
            reporter.warn(f"{unknown} panoramas have no known {text}")


def conventions_of(data: Dataset) -> dict[str, Any]:
    """What a checkpoint keeps of its training data, and what data are held against it: JSON-ready, None for unknown."""
    rows = data.conventions.ground_rows
    return {
        "fit": data.conventions.fit,
        "ground_rows": None if rows is None else list(rows),
        "aligned": data.conventions.aligned,
        "tile_metres": tile_metres(data.tiles),
    }


def _metres(sides: list[float]) -> str:
    low, high = sides
    return f"{low:.3g} m" if high <= low * 1.01 else f"{low:.3g} to {high:.3g} m"


def _judge_tiles(trained: dict[str, Any], given: dict[str, Any]) -> Finding | None:
    model, tiles = trained.get("tile_metres"), given.get("tile_metres")
    if model is None or tiles is None:
        whose = "the model's" if model is None else "these"
        return Finding(f"how much ground {whose} tiles cover is unknown: it is taken to fit")
    if tiles[0] <= model[1] * TOLERANCE and tiles[1] >= model[0] / TOLERANCE:
        return None
    wanted = f"{(model[0] + model[1]) / 2:.3g}"
    text = f"the tiles cover {_metres(tiles)} of ground, the model was trained on tiles of {_metres(model)}"
    return Finding(text, f"cut the tiles again with --tile-metres {wanted}", refused=True)


def _fit(one: dict[str, Any]) -> str | None:
    # Stretching the middle half of a sphere's rows to the grid puts them where `place` does.
    rows = one.get("ground_rows")
    if one.get("fit") == "stretch" and rows and (rows[1] - rows[0]) / rows[2] == MIDDLE_HALF:
        return "place" if rows[0] + rows[1] == rows[2] else "stretch"
    return one.get("fit")


def _judge_fit(trained: dict[str, Any], given: dict[str, Any]) -> Finding | None:
    model, pictures = _fit(trained), _fit(given)
    # Pictures that state nothing are placed by their fields of view.
    if model is None or (pictures or "place") == model:
        return None
    text = f"the panoramas are taken with fit {pictures or 'place'}, the model was trained with fit {model}"
    if pictures is None:
        return Finding(f"{text}: their vertical field may be drawn at another scale")
    return Finding(text, f'write fit = "{model}" under [conventions] of dataset.toml, or train on such data', True)


def _judge_alignment(trained: dict[str, Any], given: dict[str, Any]) -> Finding | None:
    if trained.get("aligned") and given.get("aligned") is False:
        return Finding("the panoramas stand off the tile centres, the model was trained on centred ones")
    return None


# Which judges look at which views.
JUDGES: dict[str, tuple[Judge, ...]] = {
    "aerial": (_judge_tiles,),
    "ground": (_judge_fit,),
    "both": (_judge_tiles, _judge_fit, _judge_alignment),
}


def check_conventions(
    trained: dict[str, Any] | None, given: dict[str, Any], view: str, where: object, allow: bool, reporter: Reporter
) -> None:
    """Hold pictures against the conventions that a model was trained with.

    Args:
        trained: of the checkpoint; None for a model that was never trained, empty where it does not say.
        given: of the pictures, as `conventions_of` gives them.
        view: `aerial`, `ground` or `both`.
        where: the data set or store that is named in messages.
        allow: warn of what differs, in place of refusing it.
        reporter: is told of what is unknown.

    Raises MismatchError with a sentence on how to convert where both are known and results would be wrong.
    """
    if trained is None:
        return
    if not trained:
        reporter.warn("the checkpoint does not say which conventions it was trained with: they are taken to fit")
        return
    for judge in JUDGES[view]:
        finding = judge(trained, given)
        if finding is None:
            continue
        if finding.refused and not allow:
            raise MismatchError(finding.text, path=str(where), mend=f"{finding.mend}, or go on with --allow-mismatch")
        reporter.warn(f"{where}: {finding.text}")
