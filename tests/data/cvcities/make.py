"""Writes a miniature of CV-Cities in the official layout: `python make.py FOLDER`.

The panoramas are turned by random angles: the data set does not say where north is.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location("places", Path(__file__).parents[1] / "places.py")
places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(places)

CITIES = {"barcelona": (41.39, 2.15), "tokyo": (35.68, 139.76), "london": (51.51, -0.13), "taipei": (25.05, 121.50)}


def make(
    folder: Path,
    pairs: int = 6,
    cities: tuple[str, ...] = tuple(CITIES),
    seed: int = 0,
    ground_size: tuple[int, int] = (64, 128),
    aerial_size: int = 64,
) -> Path:
    """Write so many pairs a city, with small pictures; cities that are not in CITIES lie off Africa."""
    generator = np.random.default_rng(seed)
    for city in cities:
        south, west = CITIES.get(city, (0.0, 0.0))
        rows = []
        for number in range(pairs):
            lat, lon = south + 0.002 * number, west + 0.001 * number
            name = f"{city}_{number:05d}"
            aerial, ground = f"{city}/satellite_images/{name}.jpg", f"{city}/pano_images/{name}.jpg"
            place = places.pattern(generator)
            panorama = np.roll(places.draw_panorama(place, *ground_size), generator.integers(ground_size[1]), axis=1)
            places.write(folder / ground, panorama)
            places.write(folder / aerial, places.draw_tile(place, aerial_size))
            rows.append(f"{name},{lon:.6f},{lat:.6f},{city},{aerial},{ground}\n")
        (folder / city / "img_info.csv").write_text("".join(rows))
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
