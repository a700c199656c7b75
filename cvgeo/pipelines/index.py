"""`cvgeo index`: an approximate index beside a store, built, brought up to date, checked; and opened for searches."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.errors import CvgeoError, InputError, MismatchError
from cvgeo.paths import write_text
from cvgeo.report import Reporter
from cvgeo.retrieval import EmbeddingStore
from cvgeo.retrieval.approximate import Allowed, Identity, Index, matched
from cvgeo.retrieval.approximate import search as search_index
from cvgeo.retrieval.exact import Part, Watch
from cvgeo.retrieval.exact import search as search_exactly
from cvgeo.retrieval.faiss_index import FaissIndex, Plan, is_whole, read_facts
from cvgeo.retrieval.heading import Scorer
from cvgeo.retrieval.lock import writer_lock
from cvgeo.retrieval.milvus_index import MilvusIndex
from cvgeo.retrieval.store import relative_to_store

FAISS_SUFFIX, MILVUS_SUFFIX = ".faiss", ".milvus.json"  # behind the store's own name
CHECKED_ROWS = 100
CHECKED_HITS = 10
AUTO_BYTES = 4 << 30  # of embeddings: reading these takes seconds a search

Search = Callable[[Scorer, int], tuple[np.ndarray, np.ndarray]]


@dataclass
class IndexOptions:
    """How an index is made: `structure` auto, hnsw or ivfpq and `pca` for faiss; `uri` and `collection` for milvus."""

    structure: str = "auto"
    pca: int = 0
    uri: str | None = None
    collection: str | None = None
    overwrite: bool = False


def faiss_path(store: Path) -> Path:
    """Where the faiss index of a store lies."""
    return store.with_name(f"{store.name}{FAISS_SUFFIX}")


def milvus_record(store: Path) -> Path:
    """Where it is kept in which engine and collection the rows of a store are."""
    return store.with_name(f"{store.name}{MILVUS_SUFFIX}")


def _opened(path: str) -> EmbeddingStore:
    store = EmbeddingStore(path)
    if not len(store):
        store.close()
        raise InputError("holds no rows", path=path, mend="fill it with cvgeo embed")
    return store


def build_index(path: str, kind: str, options: IndexOptions, reporter: Reporter) -> dict[str, Any]:
    """Build an index, or bring it up to date with its store.

    Returns:
        The record: store, kind, index, rows, added, removed, built (`new`, `again`, `extended`, `unchanged`), seconds.

    Raises UsageError where the extra is not installed, OutputError where it cannot be written.
    """
    started = time.monotonic()
    with _opened(path) as store:
        make = _faiss if kind == "faiss" else _milvus
        record = {"store": path, "kind": kind, "rows": len(store)} | make(store, options, reporter)
    return record | {"seconds": round(time.monotonic() - started, 2)}


def _old_faiss(path: Path, store: EmbeddingStore, options: IndexOptions) -> dict[str, Any] | None:
    """What the index that is there says of itself, None where it must be built from nothing."""
    if options.overwrite or not path.exists():
        return None
    facts = read_facts(path)
    same = facts["fingerprint"] == store.header.fingerprint and facts["dimension"] == store.header.dimension
    plan = facts["plan"]
    wanted = options.structure in ("auto", plan["structure"]) and options.pca in (0, plan["pca"])
    return facts if same and wanted else None


def _faiss(store: EmbeddingStore, options: IndexOptions, reporter: Reporter) -> dict[str, Any]:
    path = faiss_path(store.path)
    existed = path.exists()
    with writer_lock(path):
        for left in path.parent.glob(f".{path.name}.*.part"):
            left.unlink(missing_ok=True)
        facts = _old_faiss(path, store, options)
        added, removed, how = 0, 0, "unchanged"
        if facts is None or facts["digest"] != store.digest():
            identity = Identity.of(store)
            index = None if facts is None else FaissIndex.open(path)
            changed = None if index is None else index.extended(store, identity, reporter.track)
            if changed is not None:
                (added, removed), how = changed, "extended"
            else:
                structure = options.structure if facts is None else facts["plan"]["structure"]
                pca = options.pca if facts is None else facts["plan"]["pca"]
                plan = Plan.choose(len(store), store.header.dimension, structure, pca)
                index = FaissIndex.build(store, identity, plan, reporter.track)
                added, how = len(store), "again" if existed else "new"
            reporter.now(f"writing {path}")
            index.save(path)
            facts = read_facts(path)
    plan = Plan(**facts["plan"])
    sizes = {"structure": plan.structure, "lists": plan.lists or None, "pca": plan.pca or None}
    return {"index": str(path), "added": added, "removed": removed, "built": how, **sizes, "bytes": path.stat().st_size}


def place_in_milvus(path: Path) -> dict[str, Any]:
    """What is kept in a file of `milvus_record`: uri, collection, digest; empty where there is none.

    Raises InputError for a damaged one.
    """
    try:
        place = json.loads(path.read_text(encoding="utf-8"))
        if not all(isinstance(place[key], str) for key in ("uri", "collection", "digest")):
            raise ValueError("not text")
        return place
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("damaged", path=path, mend="remove it and run cvgeo index --kind milvus") from error


def _place(store: EmbeddingStore, uri: str | None, collection: str | None) -> tuple[str, str]:
    """The engine and the collection of a store: as told, as kept, else an embedded one beside the store."""
    kept = place_in_milvus(milvus_record(store.path))
    if uri is not None and "://" not in uri:
        uri = relative_to_store(store.path, Path(uri))
    uri = uri or kept.get("uri") or f"{store.path.name}.milvus.db"
    if collection is None and kept.get("uri") == uri:
        collection = kept["collection"]
    if collection is None:
        stem = re.sub(r"\W", "_", store.path.stem, flags=re.ASCII)[:60]
        whole = hashlib.sha256(os.fsencode(store.path.absolute())).hexdigest()
        collection = f"cvgeo_{stem}_{whole[:8]}"
    return uri, collection


def _address(store: EmbeddingStore, uri: str) -> str:
    """Paths without a folder lie beside the store, so that both can be moved together."""
    return uri if "://" in uri else str(store.path.absolute().parent / uri)


def _token() -> str:
    return os.environ.get("CVGEO_MILVUS_TOKEN", "")


def _milvus(store: EmbeddingStore, options: IndexOptions, reporter: Reporter) -> dict[str, Any]:
    uri, collection = _place(store, options.uri, options.collection)
    record = milvus_record(store.path)
    columns = store.columns
    with writer_lock(record), MilvusIndex(_address(store, uri), collection, _token()) as index:
        kept = place_in_milvus(milvus_record(store.path))
        known = (kept.get("uri"), kept.get("collection")) == (uri, collection)
        if index.exists() and (options.overwrite or (known and kept.get("fingerprint") != store.header.fingerprint)):
            index.drop()
        existed = index.exists()
        # Without a digest the collection counts as half done, whatever happens from here on.
        place = {"uri": uri, "collection": collection, "fingerprint": store.header.fingerprint}
        write_text(record, json.dumps({**place, "digest": ""}) + "\n")
        added, removed = index.sync(store, Identity.of(store), columns.lat, columns.lon, reporter.track)
        write_text(record, json.dumps({**place, "digest": store.digest(), "rows": len(store)}) + "\n")
    how = "new" if not existed else "extended" if added or removed else "unchanged"
    return {"index": uri, "collection": collection, "added": added, "removed": removed, "built": how}


def check_index(path: str, kind: str, options: IndexOptions) -> dict[str, Any]:
    """Whether an index is whole and of the store's present state, and how well it finds.

    Returns:
        The record: store, kind, index, rows, recall_at_10 of rows of the store searched in it against exact search.

    Raises InputError where it is missing or damaged, MismatchError where it is of another state of the store.
    """
    with _opened(path) as store:
        chosen = open_faiss(store) if kind == "faiss" else open_milvus(store, options.uri, options.collection)
        if isinstance(chosen, FaissIndex):
            place = str(faiss_path(store.path))
            if not is_whole(faiss_path(store.path)):
                raise InputError("damaged", path=place, mend="build it again with cvgeo index --overwrite")
        else:
            place = chosen.uri
            _check_entities(chosen, Identity.of(store))
        rows = np.sort(np.random.default_rng(0).choice(len(store), min(CHECKED_ROWS, len(store)), replace=False))
        scorer, hits = Scorer(store.fetch(rows)), min(CHECKED_HITS, len(store))
        found, _ = search_index(store, chosen, scorer, hits)
        true, _ = search_exactly(store, scorer, hits)
        close_index(chosen)
    share = np.mean([np.isin(one, other).mean() for one, other in zip(true, found, strict=True)])
    return {"store": path, "kind": kind, "index": place, "rows": len(store), "recall_at_10": round(float(share), 4)}


def _check_entities(index: MilvusIndex, identity: Identity) -> None:
    keys, checksums = index.entries()
    rows = matched(keys, checksums, identity)
    if len(keys) != len(identity) or len(np.unique(rows[rows >= 0])) != len(identity):
        raise MismatchError(
            "rows are missing or of another state", path=index.uri, mend="run cvgeo index --kind milvus"
        )


def _stale(store: EmbeddingStore, place: str | Path, kind: str) -> MismatchError:
    mend = f"bring it up to date: cvgeo index {store.path} --kind {kind}"
    return MismatchError("the index is of another state of the store", path=place, mend=mend)


def open_faiss(store: EmbeddingStore) -> FaissIndex:
    """The faiss index of a store. Raises InputError for a missing or damaged one, MismatchError for a stale one."""
    path = faiss_path(store.path)
    if not path.exists():
        raise InputError("no such index", path=path, mend=f"build it: cvgeo index {store.path}")
    if read_facts(path)["digest"] != store.digest():
        raise _stale(store, path, "faiss")
    return FaissIndex.open(path)


def open_milvus(store: EmbeddingStore, uri: str | None = None, collection: str | None = None) -> MilvusIndex:
    """The milvus index of a store: at a URI, else where it was made. Raises as `open_faiss` does."""
    kept = place_in_milvus(milvus_record(store.path))
    if not kept:
        mend = f"build it: cvgeo index {store.path} --kind milvus"
        raise InputError("no milvus index of this store is known", path=store.path, mend=mend)
    if kept["digest"] != store.digest():
        raise _stale(store, milvus_record(store.path), "milvus")
    uri, collection = _place(store, uri, collection)
    index = MilvusIndex(_address(store, uri), collection, _token())
    if not index.exists():
        index.close()
        raise InputError(f"no collection {collection}", path=uri, mend=f"run cvgeo index {store.path} --kind milvus")
    index.attach(Identity.of(store))
    return index


def close_index(index: Index | None) -> None:
    """Let go of what an index holds open."""
    if isinstance(index, MilvusIndex):
        index.close()


def choose_index(store: EmbeddingStore, kind: str, uri: str | None, reporter: Reporter) -> Index | None:
    """What a search goes by: None is exact.

    `auto` is exact while the store is small enough to be read in seconds; a larger one is searched by its faiss index,
    if that is up to date, and the user is told.
    """
    if kind == "milvus" or (kind == "auto" and uri is not None):
        return open_milvus(store, uri)
    if kind == "faiss":
        return open_faiss(store)
    large = len(store) * store.header.row_bytes >= AUTO_BYTES
    if kind == "exact" or not large or not faiss_path(store.path).exists():
        return None
    try:
        index = open_faiss(store)
    except CvgeoError as error:
        reporter.warn(f"{error}; searching exactly")
        return None
    reporter.note(f"searching by {faiss_path(store.path)}, which may miss places; --index exact misses none")
    return index


def searching(
    store: EmbeddingStore, index: Index | None, rows: np.ndarray | None, watch: Watch | None = None
) -> Search:
    """The function (scorer, k) that gives the best rows and their scores, exactly or by an index.

    Only `rows` (n,), ascending, are searched; None for all. An exact search shows its scores to `watch`.
    """

    def search(scorer: Scorer, k: int) -> tuple[np.ndarray, np.ndarray]:
        if index is not None:
            return search_index(store, index, scorer, k, None if rows is None else Allowed.of(store, rows))
        if rows is None:
            return search_exactly(store, scorer, k, watch)
        found, scores = search_exactly(Part(store, rows), scorer, k, watch)
        return rows[found], scores

    return search
