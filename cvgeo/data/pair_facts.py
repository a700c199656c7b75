"""What a data set says of the pairs of a batch: offsets within the tiles, and which places are near each other."""

from __future__ import annotations

import numpy as np

from cvgeo.data.images import image_size
from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError
from cvgeo.geometry.geodesy import earth_centred


class PairFacts:
    """Looks up pairs of rows (panorama, tile) of a data set."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        pairs = dataset.pairs
        keys = self._keys(pairs.panorama, pairs.tile)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]
        self._sides: dict[int, float] = {}

    def _keys(self, panoramas: np.ndarray, tiles: np.ndarray) -> np.ndarray:
        return panoramas * len(self.dataset.tiles) + tiles

    def _side_m(self, tile: int) -> float:
        """Ground length of a tile's side; NaN where it is unknown or the picture cannot be read."""
        if tile not in self._sides:
            table = self.dataset.tiles
            try:
                self._sides[tile] = float(table.gsd_m[tile]) * min(image_size(table.path[tile]))
            except InputError:
                self._sides[tile] = np.nan
        return self._sides[tile]

    def offsets(self, panoramas: np.ndarray, tiles: np.ndarray) -> np.ndarray:
        """Panorama minus tile centre, north and east, as shares of the tile's side: (n, 2) float64.

        NaN where the data set does not know, or has no such pair (tile -1).
        """
        keys = self._keys(panoramas, tiles)
        at = self._order[np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)]
        pairs = self.dataset.pairs
        listed = (pairs.panorama[at] == panoramas) & (pairs.tile[at] == tiles)
        metres = np.stack([pairs.offset_north_m[at], pairs.offset_east_m[at]], axis=1)
        sides = np.array([self._side_m(int(tile)) if one else np.nan for tile, one in zip(tiles, listed, strict=True)])
        return np.where(listed[:, None], metres, np.nan) / sides[:, None]

    def near(self, panoramas: np.ndarray, tiles: np.ndarray, metres: float) -> np.ndarray:
        """Which pairs' places are less than so many metres apart: (n, n) bool.

        A place is the panorama's position, the tile's where that is unknown; one without either is near to none.
        """
        panorama, tile = self.dataset.panoramas, self.dataset.tiles
        lat, lon = (
            np.where(np.isnan(own[panoramas]), other[tiles], own[panoramas])
            for own, other in ((panorama.lat, tile.lat), (panorama.lon, tile.lon))
        )
        places = earth_centred(lat, lon)
        return np.linalg.norm(places[:, None] - places[None], axis=-1) < metres
