"""Searches and ranks within a memory limit; prints the peak above what was there before, in MiB, and a digest of what
was found."""

import hashlib
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cvgeo.memory import limit_memory
from cvgeo.retrieval.exact import ArrayGallery, ranks, search
from tests.benchmarks.machine import forget_peak, peak_mib


def find(gallery: ArrayGallery, queries: np.ndarray) -> list[np.ndarray]:
    every = np.arange(len(queries))
    rows, _ = search(gallery, queries, 10)
    ranked = ranks(gallery, queries, (every, every % len(gallery)))
    return [rows, ranked.exact, ranked.top]


def main(limit: int) -> None:
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    gallery = ArrayGallery(generator.normal(size=(12_000, 256)).astype(np.float16))
    queries = generator.normal(size=(3000, 256)).astype(np.float32)
    find(ArrayGallery(gallery.embeddings[:64]), queries[:8])  # what the first search loads
    limit_memory(limit or None)
    forget_peak()
    before = peak_mib()
    found = find(gallery, queries)
    print(peak_mib() - before, hashlib.sha256(b"".join(one.tobytes() for one in found)).hexdigest())


if __name__ == "__main__":
    main(int(sys.argv[1]))
