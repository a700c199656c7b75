"""Geotagged pictures made for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

PACKET = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" xmlns:exif="http://ns.adobe.com/exif/1.0/" {}/>
</rdf:RDF></x:xmpmeta>"""


def sexagesimal(angle: float) -> tuple[float, float, float]:
    """Degrees, minutes, seconds of an angle's size."""
    minutes = abs(angle) * 60
    return float(int(minutes // 60)), float(int(minutes % 60)), round(minutes % 1 * 60, 6)


def gps(lat: float, lon: float, **more) -> dict:
    """A GPS directory as Pillow writes it; `direction` and `reference` say where the picture looks."""
    tags = {1: "N" if lat >= 0 else "S", 2: sexagesimal(lat), 3: "E" if lon >= 0 else "W", 4: sexagesimal(lon)}
    if "direction" in more:
        tags[17] = more["direction"]
    if more.get("reference"):
        tags[16] = more["reference"]
    return tags


def gpano(**values) -> str:
    """An XMP packet with these GPano properties as attributes (names with a colon as they are)."""
    named = {name if ":" in name else f"GPano:{name}": value for name, value in values.items()}
    return PACKET.format(" ".join(f'{name}="{value}"' for name, value in named.items()))


def write_picture(
    path: Path,
    size=(64, 32),
    place: dict | None = None,
    xmp: str | bytes = "",
    lens: dict | None = None,
    orientation=None,
) -> Path:
    """A small picture of noise with EXIF and XMP; `size` is width, height."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    exif = Image.Exif()
    if place is not None:
        exif[0x8825] = place
    if lens is not None:
        exif[0x8769] = lens
    if orientation is not None:
        exif[274] = orientation
    packet = xmp.encode() if isinstance(xmp, str) else xmp
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", packet.decode())
        picture.save(path, exif=exif, pnginfo=text)
    elif path.suffix == ".tif":
        picture.save(path, tiffinfo={700: packet})
    else:
        picture.save(path, exif=exif, **({"xmp": packet} if packet else {}))
    return path
