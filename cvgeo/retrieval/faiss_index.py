"""An index of faiss: one file beside the store.

Small galleries get a graph over half-precision rows (HNSW: Malkov and Yashunin, TPAMI 2020), large ones lists of
product-quantised rows (IVF-PQ: Jegou et al., TPAMI 2011) with 4-bit codes that are compared in registers (Andre et al.,
TPAMI 2021).

The file is what faiss writes, then a safetensors block (which entry is which row, the learned axes, what the store was)
and at the very end its length and a mark. Nothing in it is ever executed.
"""

from __future__ import annotations

import json
import math
import os
import struct
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from cvgeo import __version__
from cvgeo.errors import InputError, MismatchError, OutputError, UsageError, explain_os_error
from cvgeo.paths import atomic_file, utf8_path
from cvgeo.retrieval.approximate import Allowed, Identity, Progress, matched
from cvgeo.retrieval.exact import Gallery
from cvgeo.retrieval.reduction import Reduction, learn_reduction

FORMAT, FORMAT_VERSION = "cvgeo.faiss", 1
MARK = b"cvgeo.faiss.end\n"
GRAPH_ROWS = 200_000  # up to here a graph: its rows stay in memory, and building it takes about a millisecond a row
LINKS, BUILD_WIDTH, SEARCH_WIDTH = 32, 128, 192
SAMPLES_A_LIST = 40
TRAIN_BYTES = 256 << 20
ADD_ROWS = 16_384
DEAD_SHARE = 0.2
GROWTH = 4
CHECKED_AT_ONCE = 256 << 20
STRUCTURES = ("hnsw", "ivfpq")


def faiss_library() -> ModuleType:
    """faiss. Raises UsageError where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UsageError("faiss is not installed", mend="pip install 'cvgeo[faiss]'") from error
    return faiss


@dataclass(frozen=True)
class Plan:
    """How an index is built: `structure` hnsw or ivfpq, `lists` and `codes` (numbers a row) of the latter, `pca` the
    length of the descriptors in the index, 0 for all of it.
    """

    structure: str
    lists: int
    codes: int
    pca: int

    @classmethod
    def choose(cls, rows: int, dimension: int, structure: str = "auto", pca: int = 0) -> Plan:
        """From the number and the length of the rows."""
        if not 0 <= pca < dimension:
            raise UsageError(f"descriptors of {dimension} numbers have no {pca} axes to keep", mend="give fewer")
        if structure == "auto":
            structure = "hnsw" if rows <= GRAPH_ROWS else "ivfpq"
        if structure == "hnsw":
            return cls(structure, 0, 0, pca)
        length = pca or dimension
        step = next(step for step in (4, 3, 2, 1) if length % step == 0)
        # Few and long lists: comparing 4-bit codes costs less than sorting rows into many lists.
        lists = 1 << max(0, round(math.log2(max(1.0, math.sqrt(rows) / 3))))
        return cls("ivfpq", min(lists, max(1, rows // SAMPLES_A_LIST)), length // step, pca)

    @property
    def probes(self) -> int:
        """How many lists a query looks into."""
        return min(self.lists, max(32, self.lists // 16))


def _empty(plan: Plan, length: int, faiss: ModuleType) -> Any:
    if plan.structure == "hnsw":
        index = faiss.index_factory(length, f"HNSW{LINKS},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = BUILD_WIDTH
        return index
    index = faiss.index_factory(length, f"IVF{plan.lists},PQ{plan.codes}x4fs", faiss.METRIC_INNER_PRODUCT)
    index.cp.spherical = True
    return index


def _training_rows(gallery: Gallery, plan: Plan, dimension: int) -> np.ndarray:
    wanted = 256 if plan.structure == "hnsw" else max(SAMPLES_A_LIST * plan.lists, 1024)
    wanted = min(wanted, max(1024, TRAIN_BYTES // (4 * dimension)), len(gallery))
    rows = np.random.default_rng(0).choice(len(gallery), wanted, replace=False)
    return gallery.fetch(np.sort(rows))


class FaissIndex:
    """An index of the rows of a store: entries (E,) in the order in which they were added.

    Attributes:
        plan: how it was built.
        built: how many rows it was trained and built with.
        rows: (E,) int64, which row of the store each entry is, -1 where it is none any more.
    """

    def __init__(self, index: Any, plan: Plan, reduction: Reduction | None, built: int, identity: Identity):
        self.index, self.plan, self.reduction, self.built = index, plan, reduction, built
        self.identity = identity
        self.keys, self.checksums = np.zeros(0, np.int64), np.zeros(0, np.uint32)
        self.rows = np.zeros(0, np.int64)

    @classmethod
    def build(cls, gallery: Gallery, identity: Identity, plan: Plan, track: Progress) -> FaissIndex:
        """An index of all rows of a gallery."""
        faiss = faiss_library()
        reduction = learn_reduction(gallery, plan.pca, centre=False) if plan.pca else None
        index = _empty(plan, plan.pca or identity.dimension, faiss)
        made = cls(index, plan, reduction, len(gallery), identity)
        index.train(made._shortened(_training_rows(gallery, plan, identity.dimension)))
        made._add(gallery, identity, np.arange(len(gallery)), track)
        return made

    def extended(self, gallery: Gallery, identity: Identity, track: Progress) -> tuple[int, int] | None:
        """Take in what a store has gained and lost since: how many rows were added and removed.

        None where that is so much that the index should be built again; nothing is changed then.
        """
        rows = matched(self.keys, self.checksums, identity)
        # An entry that was dead may be alive again beside its own double: the first one counts.
        alive = np.flatnonzero(rows >= 0)
        _, first = np.unique(rows[alive], return_index=True)
        kept = np.full(len(rows), -1)
        kept[alive[first]] = rows[alive[first]]
        new = np.setdiff1d(np.arange(len(identity)), kept)
        entries = len(kept) + len(new)
        if entries - len(identity) > DEAD_SHARE * entries or len(identity) > GROWTH * self.built:
            return None
        removed = int(((self.rows >= 0) & (kept < 0)).sum())
        self.rows = kept
        self._add(gallery, identity, new, track)
        return len(new), removed

    def _shortened(self, descriptors: np.ndarray) -> np.ndarray:
        full = descriptors.astype(np.float32, copy=False)
        return np.ascontiguousarray(full if self.reduction is None else self.reduction(full))

    def _add(self, gallery: Gallery, identity: Identity, new: np.ndarray, track: Progress) -> None:
        """Add rows (ascending) as entries."""
        total = -(-len(gallery) // ADD_ROWS) if len(new) else 0
        blocks = gallery.blocks(ADD_ROWS) if len(new) else iter(())
        for start, block in track(blocks, "index", total):
            first, last = np.searchsorted(new, [start, start + len(block)])
            if last > first:
                self.index.add(self._shortened(block[new[first:last] - start]))
        self.keys = np.concatenate([self.keys, identity.keys[new]])
        self.checksums = np.concatenate([self.checksums, identity.checksums[new]])
        self.rows = np.concatenate([self.rows, new])
        self.identity = identity

    def _parameters(self, entries: np.ndarray | None, count: int) -> Any:
        faiss = faiss_library()
        selected = {} if entries is None else {"sel": faiss.IDSelectorBatch(entries)}
        if self.plan.structure == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(SEARCH_WIDTH, 2 * count), **selected)
        return faiss.SearchParametersIVF(nprobe=self.plan.probes, **selected)

    def candidates(self, probes: np.ndarray, count: int, allowed: Allowed | None = None) -> np.ndarray:
        """Rows (n, count) int64 that score best with descriptors (n, D), -1 where there are no more.

        Only allowed rows are named; None for all.
        """
        entries = None
        if allowed is not None:
            entries = np.flatnonzero(np.isin(self.rows, allowed.rows))
            if not len(entries):
                return np.full((len(probes), count), -1)
        dead = int((self.rows < 0).sum())
        wanted = min(count if not dead else math.ceil(count / (1 - DEAD_SHARE)), len(self.rows))
        parameters = self._parameters(entries, wanted)
        _, found = self.index.search(self._shortened(probes), wanted, params=parameters)
        return np.where(found >= 0, self.rows[found], -1)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all. Raises OutputError."""
        faiss = faiss_library()
        tensors = {"keys": self.keys, "checksums": self.checksums, "rows": self.rows}
        if self.reduction is not None:
            tensors |= {"mean": self.reduction.mean, "matrix": self.reduction.matrix}
        with atomic_file(path) as temporary:
            try:
                faiss.write_index(self.index, utf8_path(temporary))
            except RuntimeError as error:
                raise OutputError(f"cannot write: {error}", path=path, mend="free some space") from error
            facts = {"format": FORMAT, "format_version": FORMAT_VERSION, "created_by": f"cvgeo {__version__}"}
            facts |= {"plan": asdict(self.plan), "built": self.built, "live": int((self.rows >= 0).sum())}
            facts |= {"digest": self.identity.digest, "fingerprint": self.identity.fingerprint}
            facts |= {"dimension": self.identity.dimension, "crc32": _crc32(temporary, temporary.stat().st_size)}
            block = save_tensors(tensors, {"facts": json.dumps(facts)})
            with open(temporary, "ab") as handle:
                handle.write(block + struct.pack("<Q", len(block)) + MARK)

    @classmethod
    def open(cls, path: Path) -> FaissIndex:
        """Read an index. Raises InputError for a missing or damaged one, MismatchError for one of a newer program."""
        faiss = faiss_library()
        facts, tensors, size = _read_trailer(path)
        if size <= CHECKED_AT_ONCE and _crc32(path, size) != facts["crc32"]:
            raise _damaged(path)
        try:
            plan = Plan(**facts["plan"])
            reduction = Reduction(tensors["mean"], tensors["matrix"]) if plan.pca else None
            made = cls(faiss.read_index(utf8_path(path)), plan, reduction, int(facts["built"]), _stated(facts))
            made.keys, made.checksums, made.rows = (tensors[name] for name in ("keys", "checksums", "rows"))
        except (RuntimeError, KeyError, TypeError, ValueError) as error:
            raise _damaged(path) from error
        if not made.index.ntotal == len(made.rows) == len(made.keys) == len(made.checksums):
            raise _damaged(path)
        return made


def _stated(facts: dict[str, Any]) -> Identity:
    # The rows themselves are in the index's own columns, or, for adding, in the store's.
    return Identity(
        np.zeros(0, np.int64), np.zeros(0, np.uint32), facts["digest"], facts["fingerprint"], int(facts["dimension"])
    )


def _damaged(path: Path) -> InputError:
    return InputError("damaged or no index of cvgeo", path=path, mend="build it again with cvgeo index --overwrite")


def _crc32(path: Path, size: int) -> int:
    value, left = 0, size
    with open(path, "rb") as handle:
        while left and (piece := handle.read(min(left, 1 << 20))):
            value = zlib.crc32(piece, value)
            left -= len(piece)
    return value


def _read_trailer(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray], int]:
    """Facts, arrays, and the length of what faiss wrote."""
    try:
        with open(path, "rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            handle.seek(max(0, size - len(MARK) - 8))
            end = handle.read()
            length = struct.unpack("<Q", end[:8])[0] if len(end) == len(MARK) + 8 else size
            start = size - len(end) - length
            if end[8:] != MARK or start < 0:
                raise _damaged(path)
            handle.seek(start)
            block = handle.read(length)
        header = json.loads(block[8 : 8 + struct.unpack("<Q", block[:8])[0]])
        facts = json.loads(header["__metadata__"]["facts"])
        if facts["format"] != FORMAT:
            raise _damaged(path)
        if facts["format_version"] > FORMAT_VERSION:
            raise MismatchError("an index of a newer cvgeo", path=path, mend="update cvgeo")
        return facts, load_tensors(block), start
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except (SafetensorError, ValueError, KeyError, TypeError, struct.error) as error:
        raise _damaged(path) from error


def read_facts(path: Path) -> dict[str, Any]:
    """What an index says of itself, without reading all of it: plan, built, live, digest, fingerprint."""
    return _read_trailer(path)[0]


def is_index(path: Path) -> bool:
    """Whether a file ends as an index does."""
    with open(path, "rb") as handle:
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - len(MARK)))
        return handle.read() == MARK


def is_whole(path: Path) -> bool:
    """Whether every byte of an index is as it was written."""
    facts, _, size = _read_trailer(path)
    return _crc32(path, size) == facts["crc32"]
