"""Models: backbone + attention + aggregator by registry name, composed by `Embedder`."""

from cvgeo.models.aggregators.mixvpr import MixVPR
from cvgeo.models.catalogue import (
    ModelSummary,
    build_embedder,
    create_model,
    describe_model,
    describe_parts,
    list_models,
)
from cvgeo.models.embedder import Embedder, Embedding, fingerprint
from cvgeo.models.registry import build, names, register

__all__ = [
    "Embedder",
    "Embedding",
    "MixVPR",
    "ModelSummary",
    "build",
    "build_embedder",
    "create_model",
    "describe_model",
    "describe_parts",
    "fingerprint",
    "list_models",
    "names",
    "register",
]
