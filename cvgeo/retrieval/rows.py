"""The rows of an embedding store, and one HDF5 file of them, written once and never changed."""

from __future__ import annotations

import io
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cvgeo.errors import InputError, MismatchError, explain_os_error
from cvgeo.paths import atomic_file

SUFFIXES = (".h5", ".hdf5")
FORMAT = "cvgeo.embeddings"
FORMAT_VERSION = 3
WITHOUT_INT8 = 2  # the format of a store of half-precision numbers, which older programs read as well;
WITHOUT_AZIMUTH = 1  # and that of one without azimuth maps, which still older ones read
OLDEST_VERSION = 1  # of those that are written still; files of older ones are migrated
HASH_BYTES = 32
HALF, INT8 = "half", "int8"
LEVELS = 127  # of either sign, of a number in int8
NUMBERS = {"lat": np.float64, "lon": np.float64, "gsd_m": np.float64, "ground_m": np.float64}
STAMPS = {"placement": np.uint64, "size": np.int64, "mtime_ns": np.int64}
TEXTS = ("id", "path")
# Type, and form of one row, of the columns that are neither texts nor vectors.
COLUMNS = {**{name: (kind, ()) for name, kind in {**NUMBERS, **STAMPS}.items()}, "content_hash": (np.uint8, (32,))}
NEAR_ROWS = 64  # rows apart that are read at once: passing over so many takes no longer than another read


@dataclass(frozen=True)
class StoreHeader:
    """What made a store's embeddings: `search` refuses a model with another fingerprint.

    `azimuth_dimension` is the length of the azimuth maps beside the embeddings, 0 for none; `azimuth_model`,
    `azimuth_weights` and `azimuth_fingerprint` tell which model made them, as `model`, `weights` and `fingerprint` do.

    `storage` is half (float16 numbers) or int8 (numbers of 8 bits, with one float16 scale a row).

    `column0_heading` and `polar_convention` are those of the views; `azimuth_columns` is how many azimuth columns the
    descriptor consists of, 0 where it cannot be rolled; `model` and `weights` are what to load the model by.
    """

    fingerprint: str
    dimension: int
    view: str
    model: str = ""
    weights: str = ""
    model_config: dict[str, Any] = field(default_factory=dict)
    azimuth_columns: int = 0
    column0_heading: float = 180.0
    polar_convention: str = "paper"
    conventions: dict[str, Any] = field(default_factory=dict)
    created_by: str = ""
    azimuth_dimension: int = 0
    azimuth_model: str = ""
    azimuth_weights: str = ""
    azimuth_fingerprint: str = ""
    storage: str = HALF

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's vectors on the disk."""
        numbers = self.dimension + 2 if self.storage == INT8 else 2 * self.dimension
        return numbers + 2 * self.azimuth_dimension

    @property
    def format_version(self) -> int:
        """The oldest format that can say all of this."""
        if self.storage == INT8:
            return FORMAT_VERSION
        return max(WITHOUT_INT8 if self.azimuth_dimension else WITHOUT_AZIMUTH, OLDEST_VERSION)

    def made_alike(self, other: StoreHeader) -> bool:
        """Whether rows of both may stand in one store."""
        names = ("fingerprint", "dimension", "view", "azimuth_fingerprint", "azimuth_dimension", "storage")
        return all(getattr(self, name) == getattr(other, name) for name in names)


AZIMUTH_ATTRIBUTES = ("azimuth_dimension", "azimuth_model", "azimuth_weights", "azimuth_fingerprint")
LATER_ATTRIBUTES = (*AZIMUTH_ATTRIBUTES, "storage")  # which older files do not have


@dataclass
class StoreRows:
    """Rows of a store as columns.

    `embedding` (N, D) float16 unit vectors, or (N, D) int8 of which `scale` (N, 1) float16 is the unit, (N, 0) without;
    positions NaN where unknown; `ground_m` the side of the ground that a tile
    shows; `content_hash` (N, 32) uint8, SHA-256 of the picture's bytes; `placement` a hash of what else went into the
    view (heading, fields of view); `size` and `mtime_ns` of the file when it was read. `azimuth` (N, M) float16 are
    unit vectors of azimuth columns from which headings are found, M = 0 in a store without them.
    """

    id: list[str]
    embedding: np.ndarray
    path: list[str]
    lat: np.ndarray
    lon: np.ndarray
    gsd_m: np.ndarray
    ground_m: np.ndarray
    content_hash: np.ndarray
    placement: np.ndarray
    size: np.ndarray
    mtime_ns: np.ndarray
    azimuth: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(
        cls, id: Sequence[str], embedding: np.ndarray, path: Sequence[str] | None = None, **columns: Any
    ) -> StoreRows:
        """Rows from ids and embeddings; columns that are not given are unknown."""
        count = len(id)
        hashes = columns.get("content_hash", np.zeros((count, HASH_BYTES)))
        columns["content_hash"] = np.asarray(hashes, dtype=np.uint8).reshape(count, HASH_BYTES)
        for name, kind in {**NUMBERS, **STAMPS}.items():
            columns[name] = np.asarray(columns.get(name, np.full(count, np.nan if name in NUMBERS else 0)), dtype=kind)
        kind = np.int8 if getattr(embedding, "dtype", None) == np.int8 else np.float16
        embedding = np.ascontiguousarray(embedding, dtype=kind)
        columns["scale"] = np.ascontiguousarray(columns.get("scale", np.zeros((count, 0))), dtype=np.float16)
        columns["azimuth"] = np.ascontiguousarray(columns.get("azimuth", np.zeros((count, 0))), dtype=np.float16)
        rows = cls(id=list(id), embedding=embedding, path=list(path or [""] * count), **columns)
        if any(len(getattr(rows, one.name)) != count for one in fields(rows)):
            raise ValueError("columns of different lengths")
        return rows

    def __len__(self) -> int:
        return len(self.id)

    def take(self, rows: np.ndarray) -> StoreRows:
        """These rows, in this order."""
        return StoreRows(
            **{
                one.name: [value[row] for row in rows] if isinstance(value, list) else value[rows]
                for one in fields(self)
                for value in [getattr(self, one.name)]
            }
        )

    def stored_as(self, storage: str) -> StoreRows:
        """The same rows with embeddings as a store of that kind holds them."""
        if storage == HALF or self.embedding.dtype == np.int8:
            return self
        return replace(self, **dict(zip(("embedding", "scale"), in_eight_bits(self.embedding), strict=True)))

    @classmethod
    def joined(cls, parts: Sequence[StoreRows]) -> StoreRows:
        """Several tables one after the other."""
        return cls(
            **{
                one.name: list(chain(*values)) if isinstance(values[0], list) else np.concatenate(values)
                for one in fields(cls)
                for values in [[getattr(part, one.name) for part in parts]]
            }
        )


def in_eight_bits(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) as int8 (n, D) and scales (n, 1) float16, whose products are nearest to them.

    The largest number of a row becomes 127 or -127. 0.4 % of it is the most that a number is off.
    """
    rows = rows.astype(np.float32)
    largest = np.abs(rows).max(axis=1, keepdims=True, initial=0)
    scale = (largest / LEVELS).astype(np.float16)
    # A number that is not finite stays so in the scale, where a search notices it.
    with np.errstate(invalid="ignore", divide="ignore"):
        levels = np.nan_to_num(np.round(rows / scale.astype(np.float32)))
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8), scale


def row_checksums(rows: StoreRows) -> np.ndarray:
    """CRC-32 of each row over all its columns, (N,) uint32: any changed bit of a row is noticed."""
    numbers = [getattr(rows, name).view(np.uint8).reshape(len(rows), 8) for name in (*NUMBERS, *STAMPS)]
    metadata = np.concatenate([*numbers, rows.content_hash], axis=1)
    sums = np.empty(len(rows), np.uint32)
    for row, (embedding, azimuth, numbers) in enumerate(zip(rows.embedding, rows.azimuth, metadata, strict=True)):
        text = _encode(f"{rows.id[row]}\n{rows.path[row]}")
        # Without an azimuth map the sum is as it was before there were any.
        vectors = zlib.crc32(azimuth.data, zlib.crc32(embedding.data)) if azimuth.size else zlib.crc32(embedding.data)
        vectors = zlib.crc32(rows.scale[row].data, vectors) if rows.scale.size else vectors
        sums[row] = zlib.crc32(text, zlib.crc32(numbers.data, vectors))
    return sums


@dataclass(frozen=True)
class Migration:
    """How files of one version are read as those of the next.

    attributes: gives the file's attributes as the next version has them. columns: likewise its columns by name, all but
    the embeddings. checksums: of rows as they are read now, those (N,) uint32 that files of that version hold.
    """

    attributes: Callable[[dict[str, Any]], dict[str, Any]]
    columns: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = dict
    checksums: Callable[[StoreRows], np.ndarray] = row_checksums


# By the version that they start from; a writer brings the whole store up to date, a reader leaves the files.
MIGRATIONS: dict[int, Migration] = {}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def write_rows(
    path: Path, header: StoreHeader, blocks: Iterable[StoreRows], count: int, joined_through: int = -1
) -> None:
    """Write one file of rows, whole or not at all, a block at a time.

    `joined_through` is the number of the newest part whose rows this file holds already.
    """
    with atomic_file(path) as temporary, _new_file(temporary) as file:
        file.attrs.update(format=FORMAT, format_version=header.format_version, joined_through=joined_through)
        for name, value in asdict(header).items():
            if name in AZIMUTH_ATTRIBUTES and not header.azimuth_dimension:
                continue
            if name == "storage" and value == HALF:
                continue
            value = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
            if isinstance(value, str):
                # As h5py writes text, but for the name of a model's file that is not UTF-8.
                file.attrs.create(name, _encode(value), dtype=h5py.string_dtype("utf-8"))
            else:
                file.attrs[name] = value
        datasets = _new_datasets(file, header, count)
        start = 0
        for block in blocks:
            stop = start + len(block)
            if stop > count:
                raise ValueError(f"more rows than the {count} that were announced")
            if len(block):
                for name, values in _stored(block).items():
                    if name in datasets:
                        datasets[name][start:stop] = values
            start = stop
        if start != count:
            raise ValueError(f"{start} rows where {count} were announced")


def _new_datasets(file: h5py.File, header: StoreHeader, count: int) -> dict[str, h5py.Dataset]:
    # Contiguous, not chunked: rows are then read straight from the file, and random ones cheaply.
    int8 = header.storage == INT8
    kinds: dict[str, tuple[Any, tuple[int, ...]]] = {
        "embeddings": (np.int8 if int8 else np.float16, (header.dimension,))
    }
    if int8:
        kinds["scale"] = np.float16, (1,)
    if header.azimuth_dimension:
        kinds["azimuth"] = np.float16, (header.azimuth_dimension,)
    kinds |= {"checksum": (np.uint32, ()), **dict.fromkeys(TEXTS, (h5py.string_dtype("utf-8"), ())), **COLUMNS}
    return {name: file.create_dataset(name, (count, *form), kind) for name, (kind, form) in kinds.items()}


def _stored(rows: StoreRows) -> dict[str, np.ndarray]:
    """Rows as the datasets hold them."""
    vectors = {"embeddings": rows.embedding, "azimuth": rows.azimuth, "scale": rows.scale}
    vectors["checksum"] = row_checksums(rows)
    texts = {name: np.array([_encode(value) for value in getattr(rows, name)], dtype=object) for name in TEXTS}
    return {**vectors, **texts, **{name: getattr(rows, name) for name in COLUMNS}}


class _Sink(io.FileIO):
    """A file that takes all: HDF5 cannot close one of which a write failed, so the fault is kept for later."""

    fault: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it; after a fault nothing."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.fault is None and done < len(view):
                done += super().write(view[done:])
        except OSError as error:
            self.fault = error
        return len(view)

    def readinto(self, buffer: Any) -> int:
        """Fill all of it, with zeros behind the file's end.

        HDF5 reads back what it has written, and h5py does not tell it of a short read: after a fault it would take
        what happened to lie in memory for pointers, and crash.
        """
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (more := super().readinto(view[done:])):
            done += more
        view[done:] = bytes(len(view) - done)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length; after a fault, nothing: an error raised here would be pending while HDF5 calls on."""
        try:
            if self.fault is None:
                return super().truncate(size)
        except OSError as error:
            self.fault = error
        return self.tell() if size is None else size


@contextmanager
def _new_file(path: Path) -> Iterator[h5py.File]:
    # Raises the OSError of a write that failed, once HDF5 has let go of the file.
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file
        except (OSError, RuntimeError):
            if sink.fault is None:
                raise
        if sink.fault is not None:
            raise sink.fault


def is_store(path: Path) -> bool:
    """Whether a file is an embedding store, as far as its format says; a damaged one may not be known."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file.attrs.get("format") == FORMAT
    except (OSError, RuntimeError):
        return False


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(fault, path=path, mend="make the store again with cvgeo embed --overwrite")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Tell what HDF5 raises over a file as one line."""
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
        if isinstance(error, OSError) and error.errno:
            # HDF5's own text spans the whole call that it made of the system.
            raise explain_os_error(OSError(error.errno, os.strerror(error.errno)), path, "read") from error
        raise _unknown(path, error) from error


def _unknown(path: Path, error: Exception) -> InputError:
    # What HDF5 found out stands in brackets behind what was tried.
    reason = re.sub(r"\W?Unable to synchronously open \w+ \((.*)\)\W?$", r"\1", " ".join(str(error).split()))[:120]
    reason = {"file signature not found": "it is no HDF5 file"}.get(reason, reason)
    if path.stat().st_size == 0:
        reason = "it is empty"
    fault = f"damaged or not an embedding store ({reason})"
    if path.suffix in SUFFIXES:
        return _damaged(path, fault)
    return InputError(fault, path=path, mend="name an .h5 file that cvgeo embed made")


@dataclass(frozen=True)
class _Vectors:
    """Where in a file a dataset of vectors begins; how many numbers and bytes a row has, and of what kind they are."""

    offset: int
    dimension: int
    length: int
    kind: type


NO_VECTORS = _Vectors(0, 0, 0, np.float16)


class RowFile:
    """One HDF5 file of rows, opened for reading; everything in it is read from the disk as it is needed.

    Raises InputError where the file is damaged or something else, MismatchError where a newer program wrote it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._handle = -1
        with _reading(path):
            # The file never changes, so no lock is needed (and some network file systems have none).
            self._file = h5py.File(path, "r", locking=False)
            try:
                self._read_header(self._file)
                self._find_columns(self._file)
                self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except BaseException:
                self._file.close()
                raise

    def __len__(self) -> int:
        return self._count

    def _read_header(self, file: h5py.File) -> None:
        if file.attrs.get("format") != FORMAT:
            raise InputError(
                "an HDF5 file, but not an embedding store", path=self.path, mend="name a file made by cvgeo embed"
            )
        version = self.version = int(file.attrs["format_version"])
        if version > FORMAT_VERSION:
            raise MismatchError(f"store format {version} of a newer cvgeo", path=self.path, mend="update cvgeo")
        if not set(range(version, OLDEST_VERSION)) <= set(MIGRATIONS):
            fault = f"store format {version} of an older cvgeo, which is not read any more"
            raise MismatchError(fault, path=self.path, mend="make the store again with cvgeo embed --overwrite")
        attributes = dict(file.attrs)
        for step in range(version, OLDEST_VERSION):
            attributes = MIGRATIONS[step].attributes(attributes)
        values: dict[str, Any] = {}
        for one in fields(StoreHeader):
            if one.name in LATER_ATTRIBUTES and one.name not in attributes:
                continue
            value = attributes[one.name]
            values[one.name] = json.loads(value) if one.type.startswith("dict") else value
            values[one.name] = value.item() if isinstance(value, np.generic) else values[one.name]
        self.header = StoreHeader(**values)
        if self.header.storage not in (HALF, INT8):
            raise ValueError(f"numbers of the unknown kind {self.header.storage}")
        self.joined_through = int(attributes["joined_through"])

    def _find_columns(self, file: h5py.File) -> None:
        self._count = file["embeddings"].shape[0]
        kind = np.int8 if self.header.storage == INT8 else np.float16
        self._vectors = {"embeddings": self._vector_of(file, "embeddings", self.header.dimension, kind)}
        if kind == np.int8:
            self._vectors["scale"] = self._vector_of(file, "scale", 1)
        if self.header.azimuth_dimension:
            self._vectors["azimuth"] = self._vector_of(file, "azimuth", self.header.azimuth_dimension)
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(("checksum", *TEXTS), (self._count,))
        expected |= {name: (self._count, *form) for name, (_, form) in COLUMNS.items()}
        names = expected if self.version >= OLDEST_VERSION else set(file) - {"embeddings", "azimuth", "scale"}
        # Before anything is read: a damaged length must not ask for all memory.
        if any(file[name].shape[:1] != (self._count,) for name in names):
            raise ValueError("columns of different lengths")
        # Those of an older version are migrated as a whole, and held.
        columns = {name: file[name] if self.version >= OLDEST_VERSION else file[name][:] for name in names}
        for step in range(self.version, OLDEST_VERSION):
            columns = MIGRATIONS[step].columns(columns)
        if any(columns[name].shape != shape for name, shape in expected.items()):
            raise ValueError("columns of another form")
        self._columns = columns

    def column(self, name: str) -> np.ndarray:
        """All of one of COLUMNS, or the checksums."""
        with _reading(self.path):
            return self._columns[name][:].astype(np.uint32 if name == "checksum" else COLUMNS[name][0], copy=False)

    def column_of(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The same of these rows, in this order."""
        return self._some(name, rows).astype(np.uint32 if name == "checksum" else COLUMNS[name][0], copy=False)

    def text(self, name: str) -> Iterator[str]:
        """All of one of TEXTS, a block at a time."""
        for start in range(0, len(self), 4096):
            yield from self.text_of(name, np.arange(start, min(start + 4096, len(self))))

    def text_of(self, name: str, rows: np.ndarray) -> list[str]:
        """The same of these rows, in this order."""
        with _reading(self.path):
            return [value.decode("utf-8", "surrogateescape") for value in self._some(name, rows)]

    def _some(self, name: str, rows: np.ndarray) -> np.ndarray:
        column, (ascending, back) = self._columns[name], np.unique(rows, return_inverse=True)
        ends = np.flatnonzero(np.diff(ascending) > NEAR_ROWS) + 1
        with _reading(self.path):
            runs = [column[run[0] : run[-1] + 1][run - run[0]] for run in np.split(ascending, ends) if len(run)]
        return np.concatenate(runs)[back] if runs else np.empty((0, *column.shape[1:]), column.dtype)

    def _vector_of(self, file: h5py.File, name: str, dimension: int, kind: type = np.float16) -> _Vectors:
        """Where in the file the rows of a dataset of vectors are."""
        vectors = file[name]
        if vectors.dtype != kind or vectors.chunks or vectors.shape != (self._count, dimension):
            raise ValueError(f"{name} are not contiguous {np.dtype(kind)} rows of the stated length")
        offset = vectors.id.get_offset() or 0
        length = dimension * np.dtype(kind).itemsize
        if offset + self._count * length > os.path.getsize(self.path):
            raise ValueError("truncated")
        return _Vectors(offset, dimension, length, kind)

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop of `embeddings`, `scale` or `azimuth` as stored, (stop - start, D); D is 0 for none."""
        at = self._vectors.get(name, NO_VECTORS)
        # Plain reads, not a memory map: a file cut short gives an error here, not a killed process.
        rows = np.empty((stop - start, at.dimension), at.kind)
        buffer = memoryview(rows).cast("B") if rows.size else memoryview(b"")
        done = 0
        while done < len(buffer):
            got = os.preadv(self._handle, [buffer[done:]], at.offset + start * at.length + done)
            if got == 0:
                raise _damaged(self.path, "truncated")
            done += got
        return rows

    def gather(self, name: str, rows: np.ndarray) -> np.ndarray:
        """The same of these rows, in this order."""
        at = self._vectors.get(name, NO_VECTORS)
        found = np.empty((len(rows), at.dimension), at.kind)
        if not found.size:
            return found
        buffer = memoryview(found).cast("B")
        for start, row in zip(range(0, len(buffer), at.length), rows.tolist(), strict=True):
            if os.preadv(self._handle, [buffer[start : start + at.length]], at.offset + row * at.length) < at.length:
                raise _damaged(self.path, "truncated")
        return found

    def rows(self, start: int, stop: int) -> StoreRows:
        """All columns of rows start to stop."""
        some = np.arange(start, stop)
        texts = [self.text_of(name, some) for name in TEXTS]
        columns = {name: self.column_of(name, some) for name in COLUMNS}
        columns |= {name: self.read(name, start, stop) for name in ("scale", "azimuth")}
        return StoreRows.of(texts[0], self.read("embeddings", start, stop), texts[1], **columns)

    def damaged_rows(self, at_once: int = 4096) -> Iterator[int]:
        """Numbers of the rows whose checksum does not hold."""
        checksums = MIGRATIONS[self.version].checksums if self.version < OLDEST_VERSION else row_checksums
        for start in range(0, len(self), at_once):
            stop = min(start + at_once, len(self))
            stored = self.column_of("checksum", np.arange(start, stop))
            wrong = checksums(self.rows(start, stop)) != stored
            yield from (start + np.flatnonzero(wrong)).tolist()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
