"""What `cvgeo info` tells of the indexes that `cvgeo index` makes beside a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvgeo.errors import InputError
from cvgeo.pipelines.index import FAISS_SUFFIX, MILVUS_SUFFIX, place_in_milvus
from cvgeo.retrieval.faiss_index import is_index, is_whole, read_facts

EMBEDDED_SUFFIX = ".db"


def describe_index(path: Path, verify: bool) -> dict[str, Any] | None:
    """The record of an index: faiss's file, the note of where Milvus has it, or an embedded Milvus; None for others.

    Raises InputError for a damaged one.
    """
    if path.is_file() and (path.suffix == FAISS_SUFFIX or is_index(path)):
        return _faiss(path, verify)
    if path.is_file() and path.name.endswith(MILVUS_SUFFIX):
        return _milvus([path], verify)
    notes = sorted(path.parent.glob(f"*{MILVUS_SUFFIX}")) if path.suffix == EMBEDDED_SUFFIX else []
    kept_here = [one for one in notes if (one.parent / place_in_milvus(one)["uri"]).resolve() == path.resolve()]
    return _milvus(kept_here, verify) if kept_here else None


def _faiss(path: Path, verify: bool) -> dict[str, Any]:
    facts = read_facts(path)
    if verify and not is_whole(path):
        raise InputError("damaged", path=path, mend="build it again with cvgeo index --overwrite")
    plan = facts["plan"]
    return {
        "kind": "faiss index",
        "store": _store_of(path, FAISS_SUFFIX),
        "rows": facts["live"],
        "dimension": facts["dimension"],
        "structure": plan["structure"],
        "lists": plan["lists"] or None,
        "pca": plan["pca"] or None,
        "bytes": path.stat().st_size,
        "fingerprint": facts["fingerprint"],
        "created_by": facts["created_by"],
    }


def _milvus(notes: list[Path], verify: bool) -> dict[str, Any]:
    """What the notes beside stores say of one engine; what is in it only `cvgeo index --check` tells."""
    places = [place_in_milvus(note) for note in notes]
    return {
        "kind": "milvus index",
        "stores": [_store_of(note, MILVUS_SUFFIX) for note in notes],
        "uri": places[0]["uri"],
        "collections": [place["collection"] for place in places],
        "rows": [place.get("rows") for place in places],
        "finished": all(place["digest"] for place in places),
        **({"verified": None} if verify else {}),
    }


def _store_of(path: Path, suffix: str) -> str | None:
    """The store beside which an index lies, None where it is not there."""
    store = path.with_name(path.name.removesuffix(suffix))
    return str(store) if store != path and store.is_file() else None
