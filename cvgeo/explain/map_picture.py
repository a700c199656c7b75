"""The answer on the imagery: candidates by rank, the heading of the best, the true place where it is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cvgeo.explain import drawing


@dataclass
class Candidate:
    """One place on the map: its pixel (row, column), rank, score, and the heading of the picture; NaN is unknown."""

    row: float
    column: float
    rank: int
    score: float
    heading: float = math.nan
    heading_sd: float = math.nan


def _arrow(draw: ImageDraw.ImageDraw, at: tuple[float, float], heading: float, length: float, radius: float) -> None:
    angle = math.radians(heading)
    ahead = (math.sin(angle), -math.cos(angle))
    side = (-ahead[1], ahead[0])

    def point(forward: float, sideways: float) -> tuple[float, float]:
        return (
            at[0] + forward * ahead[0] + sideways * side[0],
            at[1] + forward * ahead[1] + sideways * side[1],
        )

    half = radius * 0.45
    shape = [
        point(radius, -half),
        point(length - 2 * half, -half),
        point(length - 2 * half, -2 * half),
        point(length, 0),
        point(length - 2 * half, 2 * half),
        point(length - 2 * half, half),
        point(radius, half),
    ]
    draw.polygon(shape, fill=drawing.FOUND, outline=drawing.PAPER)


def draw_map(
    ortho: np.ndarray,
    candidates: Sequence[Candidate],
    metres_per_pixel: float,
    title: str,
    truth: tuple[float, float] | None = None,
    attribution: str = "",
    placed: bool = True,
) -> np.ndarray:
    """Draw ranked candidates on a north-up picture of the area.

    Args:
        ortho: (H, W, 3) uint8 RGB, north up.
        candidates: in order of rank; the first is drawn largest and on top.
        metres_per_pixel: of `ortho`, for the scale bar.
        title: one line above the map.
        truth: pixel (row, column) of the true place, drawn as a ring.
        attribution: whom the imagery is from, below the map's title.
        placed: whether the first is an answer; else it is drawn like the others.

    Returns:
        (H + header, W, 3) uint8 RGB.
    """
    # The imagery steps back a little so that the marks stand out.
    faded = (ortho.astype(np.float32) * 0.8 + 36).clip(0, 255).astype(np.uint8)
    picture = Image.fromarray(faded)
    unit = max(12, min(picture.size) // 44)
    draw = ImageDraw.Draw(picture)
    for candidate in reversed(candidates):
        best = placed and candidate.rank == 1
        at, radius = (candidate.column, candidate.row), unit * (0.95 if best else 0.75)
        if best and not math.isnan(candidate.heading):
            _arrow(draw, at, candidate.heading, unit * 3.4, radius)
        colour = drawing.FOUND if best else drawing.OTHER
        drawing.disc(draw, at, radius, colour, str(candidate.rank), round(unit * (1.1 if best else 0.9)))
    if truth is not None:
        row, column = truth
        for radius, colour, width in ((1.5, drawing.PAPER, unit // 2), (1.42, drawing.TRUE, unit // 3)):
            box = (column - radius * unit, row - radius * unit, column + radius * unit, row + radius * unit)
            draw.ellipse(box, outline=colour, width=width)
    drawing.scale_bar(picture, metres_per_pixel, unit)
    drawing.north_arrow(picture, unit)
    legend = _legend(candidates, placed)
    return np.asarray(_with_header(picture, title, unit, truth is not None, legend, attribution))


def _legend(candidates: Sequence[Candidate], placed: bool) -> list[tuple[tuple[int, int, int], str, str]]:
    """Colour, rank and label of the kinds of marks."""
    count, first = len(candidates), candidates[0]
    if not placed:
        return [(drawing.OTHER, "1", f"best {count}, none of them probable enough")]
    arrow = "" if math.isnan(first.heading) else f", {drawing.heading(first.heading, first.heading_sd)}"
    best = (drawing.FOUND, "1", f"best match{arrow}")
    return [best, (drawing.OTHER, "2", f"next {count - 1}")] if count > 1 else [best]


def _with_header(
    picture: Image.Image,
    title: str,
    unit: int,
    with_truth: bool,
    legend: Sequence[tuple[tuple[int, int, int], str, str]],
    attribution: str,
) -> Image.Image:
    height = unit * 4
    sheet = Image.new("RGB", (picture.width, picture.height + height), drawing.PAPER)
    sheet.paste(picture, (0, height))
    draw = ImageDraw.Draw(sheet)
    shown = drawing.shortened(draw, title, round(unit * 1.25), sheet.width - 2 * unit)
    draw.text((unit, unit * 0.6), shown, fill=drawing.INK, font=drawing.font(round(unit * 1.25)))
    x, y = unit * 1.6, unit * 3.05
    size = round(unit * 0.95)
    for colour, text, label in legend:
        drawing.disc(draw, (x, y), unit * 0.62, colour, text, round(unit * 0.8))
        draw.text((x + unit, y), label, fill=drawing.MUTED, font=drawing.font(size), anchor="lm")
        x += unit * 3 + draw.textlength(label, font=drawing.font(size))
    if with_truth:
        radius = unit * 0.6
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=drawing.TRUE, width=max(2, unit // 4))
        draw.text((x + unit, y), "true place", fill=drawing.MUTED, font=drawing.font(size), anchor="lm")
        x += unit * 3 + draw.textlength("true place", font=drawing.font(size))
    if attribution:
        right = sheet.width - unit
        text = drawing.shortened(draw, f"imagery: {attribution}", size, max(1, round(right - x)))
        draw.text((right, y), text, fill=drawing.MUTED, font=drawing.font(size), anchor="rm")
    return sheet
