"""A store made by several processes or machines: each fills a shard beside it, and the store takes the shards in.

A shard is a store of its own, `x.shard-3-of-8.h5` beside `x.h5`, with its own parts and lock: it goes on after a kill
as any store does. Taking one in adds its rows as parts, and removes it only when they are all on the disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvgeo.errors import MismatchError
from cvgeo.retrieval.lock import writer_lock
from cvgeo.retrieval.rows import StoreHeader, StoreRows
from cvgeo.retrieval.store import EmbeddingStore, StoreWriter, live_rows, remove_store


@dataclass(frozen=True, order=True)
class Shard:
    """Number `number` of `count`, both from 1."""

    count: int
    number: int

    def path(self, store: Path) -> Path:
        """Where it lies."""
        return store.with_name(f"{store.stem}.shard-{self.number}-of-{self.count}{store.suffix}")

    def rows(self, total: int) -> np.ndarray:
        """Its rows (n,) of so many: every `count`-th, so that all shards take as long."""
        return np.arange(self.number - 1, total, self.count)


def shards_of(store: Path) -> list[Shard]:
    """The shards that lie beside a store."""
    name = re.compile(rf"{re.escape(store.stem)}\.shard-(\d+)-of-(\d+){re.escape(store.suffix)}")
    folder = store.absolute().parent
    found = [name.fullmatch(entry.name) for entry in folder.iterdir()] if folder.is_dir() else []
    return sorted(Shard(int(match[2]), int(match[1])) for match in found if match)


def absent(shards: list[Shard]) -> list[Shard]:
    """Shards that ought to be there with these, and are not."""
    counts = {one.count for one in shards}
    return sorted({Shard(count, number) for count in counts for number in range(1, count + 1)} - set(shards))


def take_shards(writer: StoreWriter) -> int:
    """Take in all shards beside a writer's store; returns how many rows came from them.

    May be killed and repeated: rows that are in the store already are passed over. Raises MismatchError for a shard of
    another model, InputError for a damaged one, OutputError where a process is still writing one.
    """
    taken = 0
    for shard in shards_of(writer.path):
        path = shard.path(writer.path)
        with writer_lock(path):
            with EmbeddingStore(path) as store:
                if not store.header.made_alike(writer.header):
                    raise MismatchError(_other(store.header, writer.header), path=path, mend="remove it")
                store.refuse_damage()
                for rows in _new_rows(store, writer.path):
                    writer.add(rows)
                    taken += len(rows)
            remove_store(path)
    return taken


def _other(shard: StoreHeader, store: StoreHeader) -> str:
    if shard.fingerprint == store.fingerprint and shard.storage != store.storage:
        return f"a shard of {shard.storage} numbers, not {store.storage}"
    return "a shard made by another model"


def _new_rows(shard: EmbeddingStore, path: Path) -> Iterator[StoreRows]:
    with EmbeddingStore(path) as store:
        known = {id: row for row, id in enumerate(store.columns.id)}
        columns = store.columns
        for rows in live_rows(shard):
            old = np.array([known.get(id, -1) for id in rows.id], dtype=np.int64)
            same = old >= 0
            for name in ("placement", "size", "mtime_ns"):
                same[same] &= getattr(columns, name)[old[same]] == getattr(rows, name)[same]
            same[same] &= (columns.content_hash[old[same]] == rows.content_hash[same]).all(axis=1)
            if not same.all():
                yield rows.take(np.flatnonzero(~same))
