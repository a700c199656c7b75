"""Embeddings on the disk, and how places are found among them. Sees arrays, never images."""

from cvgeo.retrieval.rows import StoreHeader, StoreRows
from cvgeo.retrieval.store import EmbeddingStore, StoreWriter, writing

__all__ = ["EmbeddingStore", "StoreHeader", "StoreRows", "StoreWriter", "writing"]
