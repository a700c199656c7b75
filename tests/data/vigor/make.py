"""Writes a miniature of VIGOR in an official layout: `python make.py FOLDER`.

Each city is a grid of tiles that overlap by half, as VIGOR's do; the panoramas stand in the middle part of a tile, and
the three nearest of its neighbours show them too. Latitudes and longitudes, offsets in pixels and names agree.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np

_spec = importlib.util.spec_from_file_location("places", Path(__file__).parents[1] / "places.py")
places = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(places)

# South-west corner and metres a pixel.
CITIES = {
    "Chicago": (41.85, -87.69, 0.1112),
    "NewYork": (40.70, -74.01, 0.113248),
    "SanFrancisco": (37.75, -122.44, 0.118141),
    "Seattle": (47.56, -122.34, 0.100817),
}
SIZE, METRES_A_DEGREE = 640, 111_195.0


def _line(name: str, lat: float, lon: float, tiles: list[tuple[str, float, float]], gsd: float) -> str:
    words = [name]
    for tile, tile_lat, tile_lon in tiles:
        north = (tile_lat - lat) * METRES_A_DEGREE / gsd
        east = (tile_lon - lon) * METRES_A_DEGREE * np.cos(np.radians(lat)) / gsd
        words += [tile, f"{north:.1f}", f"{east:.1f}"]
    return " ".join(words) + "\n"


def _nearest(row: float, column: float, side: int) -> list[int]:
    """The four tiles of the grid around a place, nearest first."""
    first, left = (int(np.clip(np.floor(one), 0, side - 2)) for one in (row, column))
    around = [(first + down, left + right) for down in (0, 1) for right in (0, 1)]
    around.sort(key=lambda at: (at[0] - row) ** 2 + (at[1] - column) ** 2)
    return [down * side + right for down, right in around]


def _write_labels(folder: Path, city: str, tiles: list[str], lines: list[str], labels: tuple[str, ...]) -> None:
    """One panorama in two is training; original labels are the corrected ones, as the miniature has no faults."""
    files = {
        "same_area_balanced_train": lines[::2],
        "same_area_balanced_test": lines[1::2],
        "pano_label_balanced": lines,
    }
    for kind in labels:
        ending = "__corrected" if kind == "splits__corrected" else ""
        (folder / kind / city).mkdir(parents=True)
        (folder / kind / city / "satellite_list.txt").write_text("".join(f"{name}\n" for name in tiles))
        for name, part in files.items():
            (folder / kind / city / f"{name}{ending}.txt").write_text("".join(part))


def make(
    folder: Path,
    side: int = 4,
    panoramas: int = 12,
    seed: int = 0,
    arrangement: str = "official",
    labels: tuple[str, ...] = ("splits", "splits__corrected"),
    ground_size: tuple[int, int] = (64, 128),
    aerial_size: int = 64,
    pictures: bool = True,
    cities: tuple[str, ...] = tuple(CITIES),
) -> Path:
    """Write `side` squared tiles and so many panoramas a city; `arrangement` official or sample4geo; small pictures."""
    generator = np.random.default_rng(seed)
    for number, city in enumerate(cities):
        south, west, gsd = CITIES[city]
        step_lat = SIZE / 2 * gsd / METRES_A_DEGREE
        step_lon = step_lat / np.cos(np.radians(south))
        lat = np.repeat(south + np.arange(side) * step_lat, side)
        lon = np.tile(west + np.arange(side) * step_lon, side)
        tiles = [f"satellite_{a:.14f}_{b:.14f}.png" for a, b in zip(lat.tolist(), lon.tolist(), strict=True)]
        ground, aerial = folder / city / "panorama", folder / city / "satellite"
        if arrangement == "sample4geo":
            ground, aerial = folder / "ground" / city, folder / "satellite" / city
        lines, drawn = [], {}
        for own in range(panoramas):
            # Stays in the quarter of the tile nearest to its centre, so that the positive one is the nearest.
            at = 5 * own % (side * side)
            pano_lat, pano_lon = (
                lat[at] + generator.uniform(-0.45, 0.45) * step_lat,
                lon[at] + generator.uniform(-0.45, 0.45) * step_lon,
            )
            pano_lat, pano_lon = round(float(pano_lat), 6), round(float(pano_lon), 6)
            near = _nearest((pano_lat - south) / step_lat, (pano_lon - west) / step_lon, side)
            name = f"{number}{own:06d}{'x' * 15},{pano_lat:.6f},{pano_lon:.6f},.jpg"
            lines.append(_line(name, pano_lat, pano_lon, [(tiles[t], lat[t], lon[t]) for t in near], gsd))
            if pictures:
                place = places.pattern(generator)
                places.write(ground / name, places.draw_panorama(place, *ground_size))
                north, east = (pano_lat - lat[at]) / step_lat / 2, (pano_lon - lon[at]) / step_lon / 2
                drawn[at] = places.draw_tile(place, aerial_size, north, east)
        if pictures:
            for at, name in enumerate(tiles):
                places.write(aerial / name, drawn.get(at, places.draw_tile(places.pattern(generator), aerial_size)))
        _write_labels(folder, city, tiles, lines, labels)
    return folder


if __name__ == "__main__":
    make(Path(sys.argv[1]))
