"""Which training samples are hard for each other: near by place, then alike to the model that is being trained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from cvgeo.config.schema import TrainConfig
from cvgeo.data.loader import PairLoader
from cvgeo.data.samplers import UniquePlaceBatches, geographic_neighbours
from cvgeo.data.schema import Panoramas, Tiles
from cvgeo.data.views import to_tensor
from cvgeo.models import Embedder
from cvgeo.retrieval.exact import ArrayGallery, search

GEOGRAPHIC = ("geographic", "geographic_then_similarity")
SIMILARITY = ("similarity", "geographic_then_similarity")
SAMPLINGS = ("random", *dict.fromkeys((*GEOGRAPHIC, *SIMILARITY)))
EMBED_BATCH = 32


@torch.inference_mode()
def embed_all(model: Embedder, loader: PairLoader, kind: str) -> np.ndarray:
    """Descriptors (N, D) float32 of all views of a kind; zeros (never found) for pictures not readable."""
    table = loader.ground if kind == "ground" else loader.aerial
    descriptors = np.zeros((len(table), model.descriptor_size), dtype=np.float32)
    device = next(model.parameters()).device
    batches = loader.reporter.track(loader.single(kind, EMBED_BATCH), f"{kind} views", -(-len(table) // EMBED_BATCH))
    for rows, images, mask in batches:
        mask = None if mask is None else mask.to(device)
        tensor = to_tensor(images.to(device), mask, loader.view)
        descriptors[rows] = model.embed(kind, tensor, mask).descriptor.float().cpu().numpy()
    return descriptors


def places(panoramas: Panoramas, tiles: Tiles, batches: UniquePlaceBatches) -> tuple[np.ndarray, np.ndarray]:
    """Latitudes and longitudes (P,) of the panoramas; of their first positive tile where they have none; else NaN."""
    rows, first = batches.panoramas, _first_tiles(batches)
    found = []
    for own, others in ((panoramas.lat, tiles.lat), (panoramas.lon, tiles.lon)):
        values = own.copy()
        values[rows] = np.where(np.isnan(own[rows]), others[first], own[rows])
        found.append(values)
    return found[0], found[1]


def _first_tiles(batches: UniquePlaceBatches) -> np.ndarray:
    related = batches.related
    return related.positive_tiles[related.positive_starts[batches.panoramas]]


def similar_neighbours(ground: np.ndarray, aerial: np.ndarray, batches: UniquePlaceBatches, count: int) -> np.ndarray:
    """A table of neighbours by similarity: (P, count) int32, -1 where there are no more.

    For each panorama the others whose (first) positive tile's descriptor is most like its own, most alike first;
    descriptors are ground (P, D) and aerial (T, D). The similarities of all to all are never held.
    """
    samples = batches.panoramas
    rows, _ = search(ArrayGallery(aerial[_first_tiles(batches)]), ground[samples], count + 1)
    others = rows != np.arange(len(samples))[:, None]
    others[others.all(axis=1), -1] = False
    table = np.full((len(ground), count), -1, dtype=np.int32)
    table[samples, : rows.shape[1] - 1] = samples[rows[others]].reshape(len(samples), -1)
    return table


@dataclass
class HardSampling:
    """Gives the trainer tables of neighbours for `UniquePlaceBatches`, when they are due (Sample4Geo's two stages)."""

    train: TrainConfig
    loader: PairLoader
    batches: UniquePlaceBatches

    def due(self, epoch: int) -> bool:
        """Whether a new table is to be made before this epoch (from 0)."""
        if epoch == 0:
            return self.train.sampling in GEOGRAPHIC
        return self.train.sampling in SIMILARITY and epoch % self.train.resample_every == 0

    def table(self, model: Embedder, epoch: int) -> np.ndarray:
        """The table (P, neighbour_pool) for the epochs from this one on; the model is in evaluation mode."""
        count = self.train.neighbour_pool
        if epoch == 0:
            dataset = self.loader.dataset
            lat, lon = places(dataset.panoramas, dataset.tiles, self.batches)
            return geographic_neighbours(lat, lon, self.batches.panoramas, count)
        ground, aerial = (embed_all(model, self.loader, kind) for kind in ("ground", "aerial"))
        return similar_neighbours(ground, aerial, self.batches, count)
