"""The embedding store: `x.h5`, and parts in `x.h5.parts/` that are read together with it.

Every file is written once, appears whole, and never changes. Parts are numbered; `x.h5` says through which number it
has taken them in, so that a part left behind by a killed join is passed over, not read twice. Of rows with one id the
newest counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from cvgeo.errors import InputError, MismatchError, explain_os_error
from cvgeo.retrieval.columns import LiveRows, StoreColumns
from cvgeo.retrieval.heading import single
from cvgeo.retrieval.lock import writer_lock
from cvgeo.retrieval.rows import INT8, OLDEST_VERSION, SUFFIXES, RowFile, StoreHeader, StoreRows, is_store, write_rows

VERIFIED_AT_ONCE = 64 << 20
MANY_PARTS = 32
_PART = re.compile(r"part-(\d{8})\.h5$")


def _parts_folder(path: Path) -> Path:
    return path.with_name(path.name + ".parts")


def _numbered_parts(path: Path) -> list[tuple[int, Path]]:
    folder = _parts_folder(path)
    if not folder.is_dir():
        return []
    found = ((_PART.fullmatch(entry.name), entry) for entry in folder.iterdir())
    return sorted((int(match[1]), entry) for match, entry in found if match)


class EmbeddingStore:
    """Rows of embeddings and what is known of their pictures; a snapshot of the files at the time of opening.

    Everything is read from the disk as it is asked for. Use as a context manager, or `close()` it.

    Attributes:
        path: of the store.
        header: what made it.
        columns: what is known of the live rows beside their embeddings (`id`, `path`, `lat`, `lon`, ...).
        folder: which relative paths of pictures are relative to.

    Raises InputError where the store is missing or damaged, naming the file.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.folder = Path(os.path.abspath(self.path)).parent
        self._files = self._open_files()
        self.header = self._files[0].header
        self._live = LiveRows(self._files)
        self.columns = StoreColumns(self._live)
        if len(self) * (self.header.dimension + self.header.azimuth_dimension) * 2 <= VERIFIED_AT_ONCE:
            self.refuse_damage()

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: StoreHeader) -> EmbeddingStore:
        """Make an empty store, in place of one that is there."""
        path = Path(path)
        if path.is_dir():
            raise explain_os_error(IsADirectoryError(21, "is a folder"), path)
        parts = _numbered_parts(path)
        write_rows(path, header, [], 0, joined_through=parts[-1][0] if parts else -1)
        _remove_parts(path)
        return cls(path)

    def __enter__(self) -> EmbeddingStore:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._live)

    @property
    def parts(self) -> int:
        """How many part files are read together with the store."""
        return len(self._files) - 1

    @property
    def checksums(self) -> np.ndarray:
        """CRC-32 of each row over all its columns, as stored, (N,) uint32."""
        pairs = zip(self._files, self._live.rows, strict=True)
        return np.concatenate([file.column("checksum")[rows] for file, rows in pairs])

    def digest(self) -> str:
        """A digest of all rows in their order, from their checksums: tells an index that it is of this state."""
        return hashlib.sha256(self.header.fingerprint.encode() + self.checksums.astype("<u4").tobytes()).hexdigest()

    @property
    def format_version(self) -> int:
        """The oldest version of its files."""
        return min(file.version for file in self._files)

    def _open_files(self) -> list[RowFile]:
        if self.path.is_dir():
            raise InputError("is a folder, not an embedding store", path=self.path, mend="name an .h5 file")
        for _ in range(20):
            parts = _numbered_parts(self.path)
            files: list[RowFile] = []
            try:
                files.append(RowFile(self.path))
                files += [RowFile(path) for number, path in parts if number > files[0].joined_through]
            except FileNotFoundError:
                # A writer joined its parts between our listing and our opening them: look again.
                for file in files:
                    file.close()
                if not self.path.exists():
                    break
                continue
            self._check_parts(files)
            return files
        raise InputError("no such store", path=self.path, mend="make one with cvgeo embed -o")

    @staticmethod
    def _check_parts(files: list[RowFile]) -> None:
        for file in files[1:]:
            if not file.header.made_alike(files[0].header):
                raise MismatchError("a part made by another model", path=file.path, mend="remove it")

    def refuse_damage(self) -> None:
        """Raise InputError where a row's checksum does not hold."""
        damaged = self.verify()
        if damaged:
            names = ", ".join(damaged[:3]) + (f" and {len(damaged) - 3} more" if len(damaged) > 3 else "")
            raise InputError(
                f"damaged rows: {names}", path=self.path, mend="make the store again with cvgeo embed --overwrite"
            )

    def blocks(self, at_once: int = 4096) -> Iterator[tuple[int, np.ndarray]]:
        """All embeddings in order, by blocks: the number of the first row, and (n <= at_once, D) float16.

        float32 in a store of int8.
        """
        for first, block, scale in self.stored_blocks(at_once):
            yield first, _widened(block, scale)

    def stored_blocks(self, at_once: int = 4096) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """The same as stored: numbers (n, D), and their scale (n, 1), or (n, 0) where there is none."""
        for file, live, first in zip(self._files, self._live.rows, self._live.starts[:-1], strict=True):
            done = 0
            for start in range(0, len(file), at_once):
                stop = min(start + at_once, len(file))
                rows = live[done : np.searchsorted(live, stop)]
                if len(rows):
                    stored = [file.read(name, start, stop) for name in ("embeddings", "scale")]
                    whole = len(rows) == stop - start
                    yield int(first) + done, *(one if whole else one[rows - start] for one in stored)
                    done += len(rows)

    def fetch(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings of these rows, (n, D) float32."""
        return single(_widened(*self.stored(rows)))

    def fetch_azimuth(self, rows: np.ndarray) -> np.ndarray:
        """Azimuth maps of these rows, (n, M) float32; M is 0 in a store without them."""
        return single(self._fetch(rows, "azimuth", self.header.azimuth_dimension))

    def stored(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of these rows as stored, (n, D), and their scale, (n, 1), or (n, 0) where there is none."""
        int8 = self.header.storage == INT8
        embedding = self._fetch(rows, "embeddings", self.header.dimension, np.int8 if int8 else np.float16)
        return embedding, self._fetch(rows, "scale", int(int8))

    def _fetch(self, rows: np.ndarray, name: str, dimension: int, kind: type = np.float16) -> np.ndarray:
        result = np.empty((len(rows), dimension), kind)
        for file, here, own in self._live.by_file(rows):
            result[here] = file.gather(name, own)
        return result

    def verify(self) -> list[str]:
        """Recompute all checksums; the ids of the damaged rows."""
        damaged = []
        for file, live in zip(self._files, self._live.rows, strict=True):
            wrong = np.fromiter(file.damaged_rows(), np.int64)
            damaged += file.text_of("id", wrong[np.isin(wrong, live)])
        return damaged

    def file_of(self, row: int) -> Path:
        """Where the picture of a row lies."""
        return self.folder / self.columns.path[row]

    def close(self) -> None:
        """Let go of the files."""
        for file in self._files:
            file.close()


def _widened(numbers: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Embeddings (n, D) from what is stored of them: float16 as they are, int8 times their scale as float32."""
    return numbers.astype(np.float32) * scale.astype(np.float32) if scale.size else numbers


def relative_to_store(store: Path, picture: Path) -> str:
    """A picture's path as a store names it: relative to the store's folder if it lies in it, else absolute."""
    home, absolute = os.path.dirname(os.path.abspath(store)), os.path.abspath(picture)
    return os.path.relpath(absolute, home) if absolute.startswith(home.rstrip(os.sep) + os.sep) else absolute


def _remove_parts(path: Path) -> None:
    for _, part in _numbered_parts(path):
        part.unlink(missing_ok=True)
    folder = _parts_folder(path)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def refuse_other(store: EmbeddingStore, header: StoreHeader) -> None:
    """Raise MismatchError where rows with this header may not be added to a store."""
    if not store.header.made_alike(header):
        more = ", say --azimuth" if store.header.azimuth_dimension and not header.azimuth_dimension else ""
        raise MismatchError(
            _first_difference(store.header, header),
            path=store.path,
            mend=f"name another store{more} or add --overwrite",
        )


class StoreWriter:
    """Adds rows to a store; made by `writing`, which holds the store's lock."""

    def __init__(self, path: Path, header: StoreHeader, overwrite: bool):
        self.path = path
        self._clear_leftovers()
        if overwrite and path.exists() and path.suffix not in SUFFIXES and not is_store(path):
            raise InputError("is no embedding store and is not overwritten", path=path, mend="name an .h5 file")
        if overwrite or not path.exists():
            EmbeddingStore.create(path, header).close()
        with EmbeddingStore(path) as store:
            self.header = store.header
            refuse_other(store, header)
            taken = store._files[0].joined_through
            outdated = store.format_version < OLDEST_VERSION
        numbers = [number for number, _ in _numbered_parts(path)]
        self._next = max([taken, *numbers]) + 1
        if outdated:
            self.join(everything=True)

    def _clear_leftovers(self) -> None:
        # Temporary files of a killed writer: the lock is ours, so nobody is filling them.
        for folder, name in ((self.path.parent, self.path.name), (_parts_folder(self.path), "part-")):
            if folder.is_dir():
                for entry in folder.iterdir():
                    if entry.name.startswith(f".{name}") and entry.name.endswith(".part"):
                        entry.unlink(missing_ok=True)

    def add(self, rows: StoreRows) -> None:
        """Add rows as one part: on the disk when this returns, or not at all."""
        if len(rows):
            part = _parts_folder(self.path) / f"part-{self._next:08d}.h5"
            write_rows(part, self.header, [rows.stored_as(self.header.storage)], len(rows))
            self._next += 1

    def join(self, keep: np.ndarray | None = None, everything: bool = False) -> None:
        """Make one file of the store and its parts, of all rows or of those (n,) to `keep`, ascending.

        `everything`: also where there is no part, which brings a file of an older version up to date. Raises InputError
        where a row is damaged; the parts stay then.
        """
        with EmbeddingStore(self.path) as store:
            if store.parts or keep is not None or everything:
                store.refuse_damage()
                rows = np.arange(len(store)) if keep is None else np.asarray(keep, dtype=np.int64)
                write_rows(self.path, self.header, live_rows(store, rows), len(rows), joined_through=self._next - 1)
        _remove_parts(self.path)

    def join_if_many(self) -> None:
        """Join where there are many parts, or where they hold a quarter of all rows."""
        with EmbeddingStore(self.path) as store:
            base = int(store._live.starts[1])
            wanted = store.parts > MANY_PARTS or (store.parts and 4 * (len(store) - base) >= len(store))
        if wanted or not store.parts:
            self.join()


def live_rows(store: EmbeddingStore, keep: np.ndarray | None = None, at_once: int = 4096) -> Iterator[StoreRows]:
    """All rows of a store, or those (n,) to keep, ascending; a block at a time."""
    for start, block, scale in store.stored_blocks(at_once):
        stop = start + len(block)
        some = (
            np.arange(start, stop) if keep is None else keep[np.searchsorted(keep, start) : np.searchsorted(keep, stop)]
        )
        rows = store.columns.take(some)
        rows.embedding, rows.scale = block[some - start], scale[some - start]
        rows.azimuth = store.fetch_azimuth(some).astype(np.float16)
        yield rows


def remove_store(path: Path) -> None:
    """Remove a store with its parts; the caller holds its lock."""
    path.unlink(missing_ok=True)
    _remove_parts(path)


def _first_difference(old: StoreHeader, new: StoreHeader) -> str:
    if old.view != new.view:
        return f"holds {old.view} views, not {new.view} views"
    if old.model != new.model:
        return f"was made by another model ({old.model}, not {new.model})"
    if old.fingerprint == new.fingerprint and old.storage != new.storage:
        return f"holds {old.storage} numbers, not {new.storage}"
    if old.fingerprint == new.fingerprint:
        held = f"azimuth maps of {old.azimuth_model}" if old.azimuth_dimension else "no azimuth maps"
        asked = f"such maps of {new.azimuth_model}" if new.azimuth_dimension else "none"
        return f"holds {held}; this call asks for {asked}"
    return f"was made by other weights of {old.model}" if old.model else "was made by another model"


@contextmanager
def writing(path: str | os.PathLike[str], header: StoreHeader, overwrite: bool = False) -> Iterator[StoreWriter]:
    """Open a store to add rows to it, making it where there is none; one writer at a time.

    Raises MismatchError where another model or view made it (unless `overwrite`), OutputError where another process is
    writing it.
    """
    path = Path(path)
    if path.is_dir():
        raise explain_os_error(IsADirectoryError(21, "is a folder"), path)
    with writer_lock(path):
        yield StoreWriter(path, header, overwrite)
