"""Every knob of the procedural world, once, and the presets made of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from cvgeo.errors import UsageError

TURNS = ("vehicle", "north", "random")  # where a panorama's centre column looks: along the street, north, anywhere


@dataclass(frozen=True)
class WorldKnobs:
    """What a world looks like and how much its two views differ. Lengths in metres, angles in degrees.

    The knobs from `season` on run from 0 (the two views agree) to 1 (as in life) and may go beyond.
    """

    gsd_m: float = 0.25  # of ortho.tif
    tile_metres: float = 60.0  # the ground size of the tiles that the preset is made for
    tile_step_m: float = 0.0  # step of the gallery grid; 0: one tile centred on each panorama
    spacing_m: float = 30.0  # least distance between two panoramas
    off_street_share: float = 0.1  # share of panoramas on paths, squares and car parks
    panorama_width: int = 640  # pixels; the height follows from square angular pixels
    hfov: float = 360.0
    vfov_top: float = 90.0
    vfov_bottom: float = -90.0
    camera_height_m: float = 2.5
    turn: str = "vehicle"  # one of TURNS
    sight_m: float = 95.0  # how far buildings and trees are seen
    relief_m: float = 0.0  # amplitude of the terrain
    traffic: float = 1.0  # density of moving cars, other ones in each view
    parked: float = 1.0  # density of parked cars, the same in both views

    season: float = 1.0  # vegetation of the ground view in another season than the aerial one
    shadows: float = 1.0  # depth of cast shadows; the sun stands elsewhere in each view
    palette: float = 1.0  # how much the colours of surfaces vary from place to place, and otherwise in each view
    response: float = 1.0  # exposure, white balance, saturation and contrast of each ground camera
    haze: float = 1.0
    blur: float = 1.0
    noise: float = 1.0
    jpeg_quality: int = 88

    @property
    def panorama_height(self) -> int:
        """Rows of a panorama, with pixels as many degrees high as wide."""
        return round(self.panorama_width * (self.vfov_top - self.vfov_bottom) / self.hfov)

    def as_dict(self) -> dict[str, Any]:
        """The knobs as plain values."""
        return asdict(self)

    def with_changes(self, **changes: Any) -> WorldKnobs:
        """These knobs with some of them changed."""
        return replace(self, **changes)

    def with_settings(self, assignments: Sequence[str]) -> WorldKnobs:
        """These knobs with changes as `["season=0.5", "panorama_width=1024"]`. Raises UsageError for what is none."""
        changes = dict(_parse(self, assignment) for assignment in assignments)
        return replace(self, **changes)


_LEAST = {"gsd_m": 0.1, "tile_metres": 10.0, "spacing_m": 5.0, "panorama_width": 64, "hfov": 30.0, "sight_m": 30.0}
_LEAST |= {"camera_height_m": 1.0, "vfov_top": -80.0, "vfov_bottom": -90.0, "jpeg_quality": 30}
_MOST = {"gsd_m": 2.0, "panorama_width": 8192, "hfov": 360.0, "sight_m": 400.0, "vfov_top": 90.0, "vfov_bottom": 80.0}
_MOST |= {"camera_height_m": 30.0, "jpeg_quality": 100, "off_street_share": 1.0, "relief_m": 100.0}


def _parse(knobs: WorldKnobs, assignment: str) -> tuple[str, Any]:
    name, equals, text = assignment.partition("=")
    known = [one.name for one in fields(knobs)]
    if not equals or name not in known:
        near = get_close_matches(name, known, n=1)
        mend = f"did you mean {near[0]}?" if near else "known: " + ", ".join(known)
        raise UsageError(f"{assignment!r} changes no knob of the world", mend=mend)
    old = getattr(knobs, name)
    if isinstance(old, str):
        if text not in TURNS:
            raise UsageError(f"{name} is not {text!r}", mend="one of " + ", ".join(TURNS))
        return name, text
    try:
        value = type(old)(text)
    except ValueError:
        raise UsageError(f"{name}={text} is not a number", mend=f"the preset has {old!r}") from None
    least, most = _LEAST.get(name, 0.0), _MOST.get(name, 1000.0)
    if not (math.isfinite(value) and least <= value <= most):
        raise UsageError(f"{name}={text} is out of range", mend=f"from {least:g} to {most:g}")
    return name, value


_ALIGNED = WorldKnobs()

PRESETS: dict[str, WorldKnobs] = {
    "aligned": _ALIGNED,
    "offcentre": _ALIGNED.with_changes(tile_metres=70.0, tile_step_m=35.0, spacing_m=25.0, off_street_share=0.2),
    "limited": _ALIGNED.with_changes(
        panorama_width=720, hfov=270.0, vfov_top=36.0, vfov_bottom=-36.0, camera_height_m=1.6, traffic=2.0
    ),
    "terrain": _ALIGNED.with_changes(relief_m=14.0, spacing_m=30.0),
}
PRESET_SUMMARIES = {
    "aligned": "tiles centred on the panoramas, full sphere (as CVUSA)",
    "offcentre": "panoramas anywhere in overlapping tiles (as VIGOR)",
    "limited": "270 degrees and a cut vertical field, low camera, dense traffic (as Taipei)",
    "terrain": "relief and occlusion",
}
