"""Shared drawing: colours, text with a halo, a scale bar. Pillow carries its own font: no system font is needed."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GROUND = (226, 229, 234)  # without imagery
INK = (24, 28, 36)
PAPER = (255, 255, 255)
MUTED = (98, 106, 120)
TRUE = (22, 150, 82)
FOUND = (214, 40, 57)
OTHER = (180, 83, 9)


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """The program's font at a size in pixels."""
    return ImageFont.load_default(size)


def halo_text(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    fill: tuple[int, int, int] = PAPER,
    halo: tuple[int, int, int] = INK,
    anchor: str = "la",
) -> None:
    """Text that stays readable on imagery: a thin outline of the other tone around it."""
    draw.text(at, text, fill=fill, font=font(size), anchor=anchor, stroke_width=max(1, size // 9), stroke_fill=halo)


def nice_length(metres: float) -> float:
    """The largest of 1, 2, 5 times a power of ten that is not longer than `metres`."""
    power = 10.0 ** math.floor(math.log10(max(metres, 1e-6)))
    return max(step * power for step in (1, 2, 5) if step * power <= metres * (1 + 1e-9))


def metres(length: float) -> str:
    """A length as people read it: 4.2 m, 37 m, 1.25 km, 690 km."""
    if length < 1000:
        return f"{length:.1f} m" if length < 10 else f"{length:.0f} m"
    return f"{length / 1000:.2f} km" if length < 10_000 else f"{length / 1000:,.0f} km"


def heading(degrees: float, sd: float) -> str:
    """A heading and how uncertain it is, NaN where that is not known (or nothing is uncertain)."""
    return f"heading {degrees:.0f}°" + ("" if math.isnan(sd) else f" ± {max(1, round(sd))}°")


def scale_bar(image: Image.Image, metres_per_pixel: float, size: int) -> None:
    """A scale bar with its length, in the lower left corner, about a fifth of the picture long."""
    draw = ImageDraw.Draw(image)
    length = nice_length(image.width * metres_per_pixel / 5)
    pixels = length / metres_per_pixel
    left, bottom, thick = size, image.height - size, max(2, size // 5)
    draw.rectangle((left - 2, bottom - thick - 2, left + pixels + 2, bottom + 2), fill=INK)
    draw.rectangle((left, bottom - thick, left + pixels, bottom), fill=PAPER)
    label = f"{length:g} m" if length < 1000 else f"{length / 1000:g} km"
    halo_text(draw, (left + pixels / 2, bottom - thick - 4), label, size, anchor="mb")


def north_arrow(image: Image.Image, size: int) -> None:
    """A north arrow in the upper right corner."""
    draw = ImageDraw.Draw(image)
    x, top = image.width - 2.2 * size, 0.9 * size
    draw.polygon(
        [(x, top), (x - 0.55 * size, top + 1.7 * size), (x, top + 1.25 * size), (x + 0.55 * size, top + 1.7 * size)],
        fill=PAPER,
        outline=INK,
    )
    halo_text(draw, (x, top + 1.9 * size), "N", size, anchor="ma")


def disc(
    draw: ImageDraw.ImageDraw,
    at: tuple[float, float],
    radius: float,
    fill: tuple[int, int, int],
    text: str,
    size: int,
) -> None:
    """A filled disc with a short text in it."""
    x, y = at
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=fill, outline=PAPER, width=max(2, round(radius / 7))
    )
    draw.text((x, y), text, fill=PAPER, font=font(size), anchor="mm")


def label(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: int, fill: tuple[int, int, int]) -> None:
    """A text on a coloured plate whose upper right corner is at a place."""
    (right, top), room = at, size // 2
    width = draw.textlength(text, font=font(size)) + 2 * room
    draw.rounded_rectangle((right - width, top, right, top + 1.7 * size), radius=size // 3, fill=fill)
    draw.text((right - room, top + 0.85 * size), text, fill=PAPER, font=font(size), anchor="rm")


def fitted(picture: np.ndarray, width: int, height: int) -> Image.Image:
    """The whole picture (H, W, 3) uint8, as large as fits."""
    image = Image.fromarray(picture)
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def plain(text: str) -> str:
    """The text with a question mark for what a file name may hold and a picture cannot show, such as a line break."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(draw: ImageDraw.ImageDraw, text: str, size: int, width: float) -> str:
    """The text on one line, as `plain` gives it; where it is wider than `width` pixels an ellipsis ends it."""
    text = plain(text)
    if draw.textlength(text, font=font(size)) <= width:
        return text
    while len(text) > 1 and draw.textlength(text + "…", font=font(size)) > width:
        text = text[:-1]
    return text + "…"
