"""The answer as one HTML page that needs nothing but itself: no server, no outside script, style or picture."""

from __future__ import annotations

import base64
import html
import json
import math
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np

from cvgeo.data.images import encode_image
from cvgeo.explain import drawing

JPEG_QUALITY = 82


@dataclass
class PageImage:
    """A north-up picture of the ground: its middle in metres east and north of the view's, its width and height."""

    src: str
    x: float
    y: float
    width: float
    height: float


@dataclass
class PagePhoto:
    """A picture that was searched."""

    name: str
    src: str


@dataclass
class PageHit:
    """A hit as the page shows it: `x`, `y` in metres east and north of the view's middle; NaN is unknown.

    `apart` is the distance to the best hit, `error` to the true place; semi-axes `major`, `minor` in metres.
    """

    rank: int
    tile: str
    x: float
    y: float
    lat: float
    lon: float
    score: float
    probability: float
    heading: float
    heading_sd: float
    headings: list[float]
    major: float
    minor: float
    azimuth: float
    apart: float
    error: float
    thumb: str


@dataclass
class PageView:
    """One search on the page: a square of `side` metres; `heat` is (x, y, side, weight) of tiles, `truth` x and y.

    `verdict` says why the picture is not placed, and is empty for one that is.
    """

    name: str
    summary: str
    verdict: str
    side: float
    photos: list[PagePhoto]
    hits: list[PageHit]
    heat: list[list[float]]
    imagery: list[PageImage] = field(default_factory=list)
    attribution: str = ""
    truth: list[float] | None = None


def inline_picture(picture: np.ndarray, width: int, height: int) -> str:
    """A picture (H, W, 3) uint8, no larger than the given pixels, as the URL of a JPEG that holds it."""
    if picture.shape[1] > width or picture.shape[0] > height:
        picture = np.asarray(drawing.fitted(picture, width, height))
    return "data:image/jpeg;base64," + base64.b64encode(encode_image(picture, ".jpg", JPEG_QUALITY)).decode()


def map_page(title: str, views: list[PageView]) -> str:
    """The page. Texts are data to it, never markup, whatever file names hold."""
    # A name that is not UTF-8 shows a question mark.
    shown = html.escape(title.encode("utf-8", "replace").decode())
    data = json.dumps(_clean({"views": [asdict(view) for view in views]}), allow_nan=False)
    for sign in "<>&":
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    folder = files("cvgeo.explain") / "page"
    page, style, script = ((folder / f"map.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    parts = {"style": style.strip(), "script": script.strip(), "title": shown, "data": data}
    before, *rest = page.split("{{")
    return before + "".join(parts[name] + after for name, after in (piece.split("}}", 1) for piece in rest))


def _clean(value: Any) -> Any:
    """Without NaN, which JSON does not know, and with digits that a page has use for."""
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    return value
