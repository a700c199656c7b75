"""The pack: decoded views of a data set in one HDF5 file, so that an epoch of training reads and no longer decodes.

Two groups, `ground` and `aerial`, each of the same contiguous columns over its N rows:

| column | shape | holds |
|---|---|---|
| images | (N, H, W, 3) uint8 | the views as the two branches see them |
| masks | (N, H, ceil(W / 8)) uint8 | ground only: a bit a pixel, 1 for seen; a hole in the file where all is seen |
| digest | (N, 32) uint8 | SHA-256 of what a view is made from: the picture's file and how it is placed |
| status | (N,) uint8 | EMPTY, SEEN (all of it), MASKED or BROKEN |
| checksum | (N,) uint32 | CRC-32 of the image and, where it is masked, of the mask |
| reason | (N, 240) bytes | why a broken picture cannot be read |

HDF5 lays the file out once, with nothing in it; rows are then read and written at their place in the file by plain
calls of the system, which neither a kill nor a full disk can make into a file that HDF5 does not open.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import cv2
import h5py
import numpy as np
import torch
from torch import Tensor

from cvgeo import __version__
from cvgeo.config.schema import ViewConfig
from cvgeo.data.ground import parts
from cvgeo.data.schema import Conventions, Panoramas, Tiles
from cvgeo.errors import CvgeoError, InputError, MismatchError, explain_os_error

FORMAT = "cvgeo.pack"
FORMAT_VERSION = 1
KINDS = ("ground", "aerial")
EMPTY, SEEN, MASKED, BROKEN = range(4)
DIGEST_BYTES = 32
REASON_BYTES = 240
# Columns of a table that no pixel depends on: a data set that is split anew keeps its pack.
WITHOUT_PIXELS = {"id", "path", "split", "source", "lat", "lon", "gsd_m"}


def pack_settings(view: ViewConfig, conventions: Conventions) -> dict[str, Any]:
    """What the pixels of all views depend on, besides their pictures; JSON-ready."""
    values = {name: value for name, value in asdict(view).items() if name != "std"}
    made_by = {"cvgeo": __version__, "opencv": cv2.__version__}
    settings = {"view": values, "fit": conventions.fit, "ground_rows": conventions.ground_rows, "made_by": made_by}
    return json.loads(json.dumps(settings))


def row_digests(table: Panoramas | Tiles, root: Path) -> np.ndarray:
    """What each row's view is made from, (N, 32) uint8: the file's name below `root`, size and time, and its placement.

    A picture that is changed, however it is changed, gets another digest; one that is missing has size -1.
    """
    columns = [getattr(table, one.name) for one in fields(table) if one.name not in WITHOUT_PIXELS]
    numbers = np.column_stack([np.zeros(len(table)), *(one for one in columns if isinstance(one, np.ndarray))])
    texts = [one for one in columns if not isinstance(one, np.ndarray)]
    digests = np.empty((len(table), DIGEST_BYTES), np.uint8)
    projections = table.projection if isinstance(table, Panoramas) else [""] * len(table)
    for row, path in enumerate(table.path):
        try:
            status = [os.stat(file) for file in parts(path, projections[row])]
            stamp = " ".join(f"{one.st_size} {one.st_mtime_ns}" for one in status)
        except OSError:
            stamp = "-1"
        text = "\0".join([os.path.relpath(path, root), stamp, *(str(one[row]) for one in texts)])
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape") + numbers[row].tobytes())
        digests[row] = np.frombuffer(digest.digest(), np.uint8)
    return digests


def fingerprint_of(settings: dict[str, Any], digests: dict[str, np.ndarray]) -> str:
    """SHA-256 of all that a pack is made from: 64 hexadecimal digits."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for kind in KINDS:
        digest.update(digests[kind].tobytes())
    return digest.hexdigest()


def image_shape(view: ViewConfig, kind: str) -> tuple[int, int, int]:
    """(H, W, 3) of the views of a kind."""
    return getattr(view, f"{kind}_height"), getattr(view, f"{kind}_width"), 3


def columns_of(count: int, shape: tuple[int, int, int], kind: str) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of each column of a group of `count` views of `shape`."""
    height, width, _ = shape
    columns = {
        "images": ((count, *shape), np.uint8),
        "masks": ((count, height, -(-width // 8)), np.uint8),
        "digest": ((count, DIGEST_BYTES), np.uint8),
        "status": ((count,), np.uint8),
        "checksum": ((count,), np.uint32),
        "reason": ((count, REASON_BYTES), np.uint8),
    }
    return columns if kind == "ground" else {name: one for name, one in columns.items() if name != "masks"}


def pack_bytes(view: ViewConfig, counts: dict[str, int]) -> int:
    """Bytes that a pack of so many views takes at most."""
    return sum(
        int(np.prod(shape)) * np.dtype(kind_of).itemsize
        for kind, count in counts.items()
        for shape, kind_of in columns_of(count, image_shape(view, kind), kind).values()
    )


class PackTable:
    """The rows of one kind of view: where each column lies in the file, and what is known of each row."""

    def __init__(self, file: h5py.File, kind: str, path: Path, handle: int):
        self.kind, self.path, self._handle = kind, path, handle
        group = file[kind]
        self.shape: tuple[int, int, int] = group["images"].shape[1:]
        count = len(group["images"])
        self._place: dict[str, tuple[int, int]] = {}
        for name, (shape, dtype) in columns_of(count, self.shape, kind).items():
            column = group[name]
            if column.shape != shape or column.dtype != dtype or column.chunks:
                raise ValueError(f"{kind}/{name} is not laid out as expected")
            row_bytes = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
            self._place[name] = (column.id.get_offset() or 0, row_bytes)
            if self._place[name][0] + count * row_bytes > os.fstat(handle).st_size:
                raise ValueError("truncated")
        self.digest, self.status = group["digest"][:], group["status"][:]
        self.checksum = group["checksum"][:]
        self._verified = np.zeros(count, dtype=bool)
        self._row_of = {digest.tobytes(): row for row, digest in enumerate(self.digest)}

    def __len__(self) -> int:
        return len(self.status)

    def row_of(self, digest: np.ndarray) -> int:
        """The row of a digest (32,); -1 where there is none, or where it has no picture yet."""
        row = self._row_of.get(digest.tobytes(), -1)
        return row if row >= 0 and self.status[row] != EMPTY else -1

    def reason(self, row: int) -> str:
        """Why the picture of a broken row cannot be read."""
        return self._read("reason", row).tobytes().rstrip(b"\0").decode("utf-8", "surrogateescape")

    def _read(self, name: str, row: int, into: np.ndarray | None = None) -> np.ndarray:
        # Plain reads, not a memory map: a file cut short gives an error here, not a killed process.
        offset, size = self._place[name]
        into = np.empty(size, np.uint8) if into is None else into
        buffer, done = memoryview(into).cast("B"), 0
        while done < size:
            got = os.preadv(self._handle, [buffer[done:]], offset + row * size + done)
            if got == 0:
                raise _damaged(self.path, "truncated")
            done += got
        return into

    def write(self, name: str, row: int, values: np.ndarray) -> None:
        """Put the values of one column into a row. Raises OSError."""
        offset, size = self._place[name]
        buffer, done = memoryview(np.ascontiguousarray(values)).cast("B"), 0
        if len(buffer) != size:
            raise ValueError(f"{len(buffer)} bytes for {name}, whose rows have {size}")
        while done < size:
            done += os.pwrite(self._handle, buffer[done:], offset + row * size + done)

    def read(self, row: int, image: np.ndarray) -> np.ndarray | None:
        """Read a row's view into `image` (H, W, 3); its packed mask (H, ceil(W / 8)), None where all is seen.

        Raises InputError where the bytes are not those that were written; checked when a row is read first.
        """
        self._read("images", row, image)
        bits = None
        if self.status[row] == MASKED:
            bits = self._read("masks", row).reshape(self.shape[0], -1)
        if not self._verified[row]:
            if view_checksum(image, bits) != self.checksum[row]:
                raise _damaged(self.path, f"row {row} of {self.kind} is not what was written")
            self._verified[row] = True
        return bits

    def expect(self, rows: np.ndarray) -> None:
        """Have the system fetch these rows from the disk while other work is done."""
        offset, size = self._place["images"]
        for row in rows.tolist():
            os.posix_fadvise(self._handle, offset + row * size, size, os.POSIX_FADV_WILLNEED)

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Views (n, H, W, 3) uint8 of these rows and their masks (n, H, W) bool, None where all is seen."""
        images = np.empty((len(rows), *self.shape), np.uint8)
        masks: np.ndarray | None = None
        for place, row in enumerate(rows.tolist()):
            bits = self.read(row, images[place])
            if bits is not None:
                if masks is None:
                    masks = np.ones(images.shape[:3], dtype=bool)
                masks[place] = np.unpackbits(bits, axis=1, count=self.shape[1])
        return torch.from_numpy(images), None if masks is None else torch.from_numpy(masks)

    def damaged_rows(self) -> list[int]:
        """Rows whose checksum does not hold; reads all of them."""
        image, damaged = np.empty(self.shape, np.uint8), []
        self._verified[:] = False
        for row in np.flatnonzero((self.status == SEEN) | (self.status == MASKED)).tolist():
            try:
                self.read(row, image)
            except InputError:
                damaged.append(row)
        return damaged


def view_checksum(image: np.ndarray, bits: np.ndarray | None) -> int:
    """CRC-32 of a view and of its packed mask."""
    checksum = zlib.crc32(memoryview(image).cast("B"))
    return checksum if bits is None else zlib.crc32(memoryview(bits).cast("B"), checksum)


def _damaged(path: Path, fault: str) -> InputError:
    return InputError(f"a damaged pack: {fault}", path=path, mend="remove it: the next training packs again")


class Pack:
    """A pack, opened for reading (or, by the one who builds it, for writing).

    Attributes: `dataset`, the name of what is packed; `settings`, see `pack_settings`; `fingerprint`; `tables` by kind.

    Raises InputError for a file that is missing, damaged or something else, MismatchError for one of a newer program.
    """

    def __init__(self, path: Path, writable: bool = False):
        self.path, self._handle = path, -1
        try:
            self._handle = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
            with h5py.File(path, "r", locking=False) as file:
                self._read_header(file)
                self.tables = {kind: PackTable(file, kind, path, self._handle) for kind in KINDS}
        except CvgeoError:
            self.close()
            raise
        except (OSError, KeyError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError) as error:
            self.close()
            if isinstance(error, OSError) and error.errno:
                raise explain_os_error(error, path, "read") from error
            raise _damaged(path, " ".join(str(error).split())[:120]) from error

    def _read_header(self, file: h5py.File) -> None:
        if file.attrs.get("format") != FORMAT:
            raise InputError("is no pack, and is not overwritten", path=self.path, mend="name another file")
        version = int(file.attrs["format_version"])
        if version > FORMAT_VERSION:
            raise MismatchError(f"pack format {version} of a newer cvgeo", path=self.path, mend="update cvgeo")
        self.dataset, self.fingerprint = str(file.attrs["dataset"]), str(file.attrs["fingerprint"])
        self.settings: dict[str, Any] = json.loads(file.attrs["settings"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def holds(self, digests: dict[str, np.ndarray]) -> bool:
        """Whether every row of these digests (N, 32) by kind is in it."""
        return all(self.tables[kind].row_of(one) >= 0 for kind in KINDS for one in digests[kind])

    def sync(self) -> None:
        """Have on the disk what was written."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_pack(path: Path) -> bool:
    """Whether a file is a pack, as far as its format says."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return file.attrs.get("format") == FORMAT
    except (OSError, RuntimeError):
        return False


@dataclass
class PackedViews:
    """The views of one table of a data set, read from a pack; `broken` maps rows that could not be read to the reason.

    Raises KeyError for a table with rows that are not in the pack.
    """

    table: PackTable
    rows: np.ndarray
    broken: dict[int, CvgeoError]

    @classmethod
    def of(cls, pack: Pack, kind: str, table: Panoramas | Tiles, root: Path) -> PackedViews:
        """The views of `table`, whose pictures lie below `root`."""
        packed = pack.tables[kind]
        rows = np.array([packed.row_of(digest) for digest in row_digests(table, root)], dtype=np.int64)
        if (rows < 0).any():
            raise InputError("changed after it was packed", path=table.path[int(np.argmin(rows))], mend="train again")
        broken = np.flatnonzero(packed.status[rows] == BROKEN).tolist()
        reasons = {row: InputError(packed.reason(int(rows[row])), path=table.path[row]) for row in broken}
        return cls(packed, rows, reasons)

    def take(self, rows: np.ndarray) -> tuple[Tensor, Tensor | None]:
        """Views and masks of these rows, as `CachedViews.take` gives them."""
        return self.table.take(self.rows[rows])

    def expect(self, rows: np.ndarray) -> None:
        """Tell which rows are taken next."""
        self.table.expect(self.rows[rows])
