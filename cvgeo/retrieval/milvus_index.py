"""An index in Milvus, the distributed engine: a file of this machine (milvus-lite), or a cluster, by the same calls.

A row is an entity whose primary key is its id's (`row_keys`), so that writing it twice gives one; it carries the row's
checksum, by which a repeated call knows what is there already, and its position, by which searches are kept to an area.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from cvgeo.errors import InputError, MismatchError, UsageError
from cvgeo.paths import utf8_path
from cvgeo.retrieval.approximate import Allowed, Identity, Progress, matched
from cvgeo.retrieval.exact import Gallery

BATCH_ROWS = 1000
BATCH_BYTES = 8 << 20
PROBES_A_CALL = 64
UNKNOWN = 999.0  # degrees: engines refuse NaN, and no area holds this
LONGEST = 16_384  # most hits that Milvus gives


def _library() -> Any:
    try:
        import pymilvus
    except ImportError as error:
        raise UsageError("pymilvus is not installed", mend="pip install 'cvgeo[milvus]'") from error
    # Faults come out as exceptions and are told once, by us.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL + 1)
    return pymilvus


@contextmanager
def _told(uri: str, doing: str) -> Iterator[None]:
    """Turn errors of the engine into one line."""
    library = _library()
    try:
        yield
    except (library.MilvusException, ConnectionError) as error:
        reason = " ".join(str(getattr(error, "message", "") or error).split())[:200]
        raise InputError(
            f"cannot {doing}: {reason}", path=uri, mend="is it running, and is the address right?"
        ) from error


def expression(allowed: Allowed | None) -> str:
    """The box around allowed rows in Milvus's language of filters."""
    if allowed is None or not np.isfinite(allowed.box).all():
        return ""
    south, west, north, east = allowed.box
    return f"lat >= {south!r} and lat <= {north!r} and lon >= {west!r} and lon <= {east!r}"


def _embedded_path(path: str) -> str:
    """Where the embedded engine keeps its files. Raises InputError for a name that it does not take."""
    folder, name = os.path.split(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        fault = "is not called in UTF-8, which the embedded milvus insists on"
        raise InputError(fault, path=path, mend="name another place with --milvus") from error
    return os.path.join(utf8_path(folder), name)


class MilvusIndex:
    """A collection of an engine, as an index of a store's rows. A context manager, or `close()` it.

    Raises UsageError where pymilvus is not installed, InputError where the engine cannot be reached or refuses.
    """

    def __init__(self, uri: str, collection: str, token: str = ""):
        self.uri, self.collection = uri, collection
        library = _library()
        if "://" not in uri:
            _check_embedded()
            address = _embedded_path(uri)
        else:
            address = uri
        with _told(uri, "connect"):
            self._client = library.MilvusClient(address, token=token)
        self._keys, self._order = np.zeros(0, np.int64), np.zeros(0, np.int64)

    def __enter__(self) -> MilvusIndex:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the engine."""
        self._client.close()

    def exists(self) -> bool:
        """Whether the collection is there."""
        with _told(self.uri, "look"):
            return bool(self._client.has_collection(self.collection))

    def drop(self) -> None:
        """Remove the collection."""
        with _told(self.uri, "remove the collection"):
            self._client.drop_collection(self.collection)

    def _create(self, dimension: int) -> None:
        kinds = _library().DataType
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("key", kinds.INT64, is_primary=True)
        schema.add_field("checksum", kinds.INT64)
        schema.add_field("lat", kinds.DOUBLE)
        schema.add_field("lon", kinds.DOUBLE)
        # milvus-lite has no half precision; a cluster is told alike, so that both are one path.
        schema.add_field("embedding", kinds.FLOAT_VECTOR, dim=dimension)
        ways = self._client.prepare_index_params()
        ways.add_index("embedding", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection(self.collection, schema=schema, index_params=ways, consistency_level="Strong")

    def _dimension(self) -> int:
        described = self._client.describe_collection(self.collection)
        sizes = [field["params"]["dim"] for field in described["fields"] if field["name"] == "embedding"]
        if not sizes:
            raise MismatchError(f"the collection {self.collection} is not cvgeo's", path=self.uri, mend="name another")
        return int(sizes[0])

    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Keys and checksums (E,) of all entities."""
        keys: list[int] = []
        checksums: list[int] = []
        with _told(self.uri, "read"):
            self._client.load_collection(self.collection)
            pages = self._client.query_iterator(
                self.collection, batch_size=10_000, filter="", output_fields=["key", "checksum"]
            )
            while page := pages.next():
                keys += [entity["key"] for entity in page]
                checksums += [entity["checksum"] for entity in page]
            pages.close()
        return np.array(keys, np.int64), np.array(checksums, np.uint32)

    def sync(
        self, gallery: Gallery, identity: Identity, lat: np.ndarray, lon: np.ndarray, track: Any
    ) -> tuple[int, int]:
        """Make the collection equal to a store; returns how many rows were written and how many were removed.

        May be killed and repeated at any moment: what is there already is not written again.
        """
        with _told(self.uri, "make the collection"):
            if not self._client.has_collection(self.collection):
                self._create(identity.dimension)
            elif self._dimension() != identity.dimension:
                mend = "add --overwrite, or name another with --collection"
                raise MismatchError("holds descriptors of another length", path=self.uri, mend=mend)
        keys, checksums = self.entries()
        rows = matched(keys, checksums, identity)
        gone = keys[~np.isin(keys, identity.keys)]
        with _told(self.uri, "remove rows"):
            for start in range(0, len(gone), BATCH_ROWS):
                self._client.delete(self.collection, ids=gone[start : start + BATCH_ROWS].tolist())
        new = np.setdiff1d(np.arange(len(identity)), rows)
        self._write(gallery, identity, np.nan_to_num(lat, nan=UNKNOWN), np.nan_to_num(lon, nan=UNKNOWN), new, track)
        with _told(self.uri, "finish"):
            self._client.flush(self.collection)
        return len(new), len(gone)

    def _write(
        self, gallery: Gallery, identity: Identity, lat: np.ndarray, lon: np.ndarray, new: np.ndarray, track: Progress
    ) -> None:
        size = max(1, min(BATCH_ROWS, BATCH_BYTES // (4 * identity.dimension)))
        starts = range(0, len(new), size)
        for start in track(starts, "index", len(starts)):
            rows = new[start : start + size]
            entities = [
                {"key": key, "checksum": checksum, "lat": north, "lon": east, "embedding": embedding}
                for key, checksum, north, east, embedding in zip(
                    identity.keys[rows].tolist(),
                    identity.checksums[rows].tolist(),
                    lat[rows].tolist(),
                    lon[rows].tolist(),
                    gallery.fetch(rows),
                    strict=True,
                )
            ]
            with _told(self.uri, "write"):
                self._client.upsert(self.collection, entities)

    def attach(self, identity: Identity) -> None:
        """Say which row of a store a key is: needed before `candidates`."""
        with _told(self.uri, "open the collection"):
            if self._dimension() != identity.dimension:
                raise MismatchError("holds descriptors of another length", path=self.uri, mend="run cvgeo index")
            self._client.load_collection(self.collection)
        self._order = np.argsort(identity.keys)
        self._keys = identity.keys[self._order]

    def candidates(self, probes: np.ndarray, count: int, allowed: Allowed | None = None) -> np.ndarray:
        """Rows (n, count) int64 that score best with descriptors (n, D), -1 where there are no more.

        The engine keeps to the box around the allowed rows.
        """
        found = np.full((len(probes), count), -1)
        for start in range(0, len(probes), PROBES_A_CALL):
            some = probes[start : start + PROBES_A_CALL].astype(np.float32)
            with _told(self.uri, "search"):
                hits = self._client.search(
                    self.collection,
                    data=list(some),
                    limit=min(count, LONGEST),
                    filter=expression(allowed),
                    anns_field="embedding",
                )
            for position, one in enumerate(hits, start):
                keys = [hit["key"] for hit in one]
                found[position, : len(keys)] = self._rows_of(np.array(keys, np.int64))
        if allowed is not None:
            found[~np.isin(found, allowed.rows)] = -1
        return found

    def _rows_of(self, keys: np.ndarray) -> np.ndarray:
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[place] == keys, self._order[place], -1)


def _check_embedded() -> None:
    try:
        import milvus_lite  # noqa: F401
    except ImportError as error:
        mend = "pip install 'cvgeo[milvus]', or give the URI of a server"
        raise UsageError("milvus-lite is not installed", mend=mend) from error
