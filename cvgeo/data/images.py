"""Picture files: read upright as 8-bit RGB whatever they hold, written whole or not at all.

What is converted: 16-bit and floating-point samples by the full range of their type (0..65535, 0..1), grey, palette,
CMYK and YCbCr to RGB, transparency composited on black (the colour of `nothing there` in orthophotos), EXIF
orientations 1 to 8. What is refused, each with its reason: no picture, truncated or damaged, too many pixels to unpack.
"""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from cvgeo.errors import InputError, UsageError, explain_os_error
from cvgeo.geometry.opencv import import_cv2
from cvgeo.paths import atomic_file

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

MAX_SIDE = 1_000_000  # of libpng, which would tell of more itself; Pillow runs out of memory somewhere above
MAX_PIXELS = 1_000_000_000  # a 30,000 x 30,000 tile passes; a file that unpacks to more is taken for a bomb
WRITABLE = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
SUFFIXES = WRITABLE | {".jpe", ".gif", ".jp2", ".ppm", ".pgm", ".pnm", ".avif"}
POLAR_SUFFIX = ".polar.png"

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")
_PNM = re.compile(rb"P[1-6]\s+(#[^\n]*\s+)?\d+\s+\d+\s")
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, KeyError, IndexError, TypeError)


@lru_cache(maxsize=1)
def _pillow() -> ModuleType:
    from PIL import Image

    # Pillow's own limit would refuse a 30,000 x 15,000 panorama; MAX_PIXELS takes its place.
    Image.MAX_IMAGE_PIXELS = None
    # Broken EXIF is survived, and the program's stderr holds the program's own lines only.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    logging.getLogger("PIL").setLevel(logging.CRITICAL + 1)
    return Image


def looks_like_picture(head: bytes) -> bool:
    """Whether the first bytes (4 or more) are those of a picture file rather than of a list of paths.

    Paths hold no zero byte, and nearly all picture formats have one among the first 64.
    """
    return head.startswith((_JPEG, _PNG[:4])) or b"\0" in head[:64] or _PNM.match(head) is not None


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's bytes. Raises InputError for what is missing, unreadable, empty, a folder, a pipe or a device."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise InputError("is a folder, not a picture", path=path, mend="name a file in it")
        if not stat.S_ISREG(mode):
            raise InputError("is a pipe or a device, not a file", path=path, mend="name a file, or `-` for stdin")
        data = Path(path).read_bytes()
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    if not data:
        raise _empty(path)
    return data


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture (H, W, 3), uint8 RGB, upright. Raises InputError with the reason; see the module."""
    return decode_image(read_bytes(path), path)


def decode_image(data: bytes, name: str | os.PathLike[str]) -> np.ndarray:
    """The picture in a file's bytes (H, W, 3), uint8 RGB, upright; `name` is what errors call it."""
    if data.startswith(_JPEG):
        picture = _decode_jpeg(data, name)
    elif data.startswith(_PNG):
        picture = _decode_png(data, name)
    else:
        picture = _decode_float_tiff(data)
    return _decode_by_pillow(data, name) if picture is None else picture


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header alone. Raises InputError as read_image does."""
    if not stat.S_ISREG(_mode(path)):
        read_bytes(path)
    try:
        with open(path, "rb") as handle:
            return _header_size(handle, path)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def encoded_size(data: bytes, name: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of the picture in a file's bytes as it is stored, from its header alone."""
    image = open_picture(io.BytesIO(data), name)
    return image.height, image.width


def _header_size(handle: BinaryIO, path: str | os.PathLike[str]) -> tuple[int, int]:
    is_tiff = handle.read(4) in _TIFF
    handle.seek(0)
    try:
        image = open_picture(handle, path)
    except InputError:
        if not is_tiff:
            raise
        # Of the kind that only OpenCV reads, which tells sizes by decoding.
        height, width, _ = read_image(path).shape
        return height, width
    return (image.width, image.height) if _orientation(image) >= 5 else (image.height, image.width)


def _mode(path: str | os.PathLike[str]) -> int:
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def _empty(name: str | os.PathLike[str]) -> InputError:
    return InputError("the file is empty", path=name, mend="fetch it again")


def _truncated(name: str | os.PathLike[str]) -> InputError:
    return InputError("the picture is truncated", path=name, mend="fetch it again")


def _damaged(name: str | os.PathLike[str], reason: object) -> InputError:
    return InputError(f"the picture is damaged ({reason})", path=name, mend="fetch it again")


def _check_pixels(height: int, width: int, name: str | os.PathLike[str]) -> None:
    if not height or not width:
        raise _damaged(name, "it has no pixels")
    if max(height, width) > MAX_SIDE:
        fault = f"{width}x{height} pixels are refused: a side has at most {MAX_SIDE:,}"
        raise InputError(fault, path=name, mend="cut it into parts")
    if height * width >= MAX_PIXELS:
        fault = f"{width}x{height} pixels are refused: at most {MAX_PIXELS:,} are unpacked"
        raise InputError(fault, path=name, mend="reduce it or cut it into parts")


def _by_opencv(data: bytes, flags: int) -> np.ndarray | None:
    cv2 = import_cv2()
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int] | None:
    # Height, width, components, and where the first scan starts; None where the segments do not add up.
    at, frame = 2, None
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xDA:
            return None if frame is None else (*frame, at)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and at + 10 <= len(data):
            frame = (*struct.unpack_from(">HH", data, at + 5), data[at + 9])
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _decode_jpeg(data: bytes, name: str | os.PathLike[str]) -> np.ndarray | None:
    frame = _jpeg_frame(data)
    if frame is None:
        return None
    height, width, components, scan = frame
    _check_pixels(height, width, name)
    # OpenCV reads three components and grey as they are; four (CMYK, often stored inverted) are left to Pillow, and so
    # is a file without an end marker, since Pillow tells a lacking marker from lacking rows.
    if components == 4 or data.rfind(b"\xff\xd9") < scan:
        return None
    return _by_opencv(data, import_cv2().IMREAD_COLOR_RGB)


def _png_chunks(data: bytes, name: str | os.PathLike[str]) -> Iterator[tuple[bytes, int, int]]:
    # Type, start and end of each chunk's data, checked; libpng would tell of damage on the terminal's stderr.
    at = len(_PNG)
    while True:
        if at + 12 > len(data):
            raise _truncated(name)
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise _truncated(name)
        if zlib.crc32(memoryview(data)[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            raise _damaged(name, f"checksum of {kind.decode('ascii', 'replace')}")
        yield kind, at + 8, end
        if kind == b"IEND":
            return
        at = end + 4


def _decode_png(data: bytes, name: str | os.PathLike[str]) -> np.ndarray | None:
    chunks = list(_png_chunks(data, name))
    kind, start, end = chunks[0]
    if kind != b"IHDR" or end - start != 13:
        raise _damaged(name, "no header")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, start)
    _check_pixels(height, width, name)
    kinds = {kind for kind, _, _ in chunks}
    if colour == 3 or kinds & {b"tRNS", b"eXIf", b"acTL"} or depth < 8:
        return None
    cv2 = import_cv2()
    if depth == 8 and colour in (0, 2):
        return _by_opencv(data, cv2.IMREAD_COLOR_RGB)
    samples = _by_opencv(data, cv2.IMREAD_UNCHANGED)
    return None if samples is None else to_rgb(_swapped(samples))


def _decode_float_tiff(data: bytes) -> np.ndarray | None:
    # The one kind that OpenCV reads and Pillow does not: several channels of floats.
    if not data.startswith(_TIFF):
        return None
    try:
        _pillow().open(io.BytesIO(data))
    except _pillow().UnidentifiedImageError:
        samples = _by_opencv(data, import_cv2().IMREAD_UNCHANGED)
        return None if samples is None else to_rgb(_swapped(samples))
    except _DAMAGED:
        return None
    return None


def _swapped(samples: np.ndarray) -> np.ndarray:
    # OpenCV's BGR and BGRA as RGB and RGBA.
    if samples.ndim == 2:
        return samples
    return samples[..., [2, 1, 0, 3][: samples.shape[2]]]


def to_rgb(samples: np.ndarray) -> np.ndarray:
    """Samples (H, W) or (H, W, C) as uint8 RGB (H, W, 3): C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.

    Integers are scaled by the full range of their type, floats from 0..1, booleans to 0 and 255; alpha is composited
    on black.
    """
    if samples.dtype == bool:
        samples = samples * np.uint8(255)
    elif np.issubdtype(samples.dtype, np.floating):
        samples = np.rint(np.nan_to_num(np.clip(samples, 0, 1)) * 255).astype(np.uint8)
    elif samples.dtype != np.uint8:
        span = np.iinfo(samples.dtype).max
        samples = np.rint(np.clip(samples, 0, None) * (255 / span)).astype(np.uint8)
    if samples.ndim == 2:
        samples = samples[..., None]
    if samples.shape[2] in (2, 4):
        alpha = samples[..., -1:].astype(np.uint16)
        samples = ((samples[..., :-1] * alpha + 127) // 255).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(samples, 3, axis=2) if samples.shape[2] == 1 else samples[..., :3])


def open_picture(source: BinaryIO, name: str | os.PathLike[str]) -> PilImage:
    """A Pillow image whose header is read, for what stands in it. Raises InputError as read_image does."""
    pillow = _pillow()
    try:
        image = pillow.open(source)
    except pillow.UnidentifiedImageError as error:
        source.seek(0)
        head = source.read(64)
        if not head:
            raise _empty(name) from error
        if looks_like_picture(head):
            raise InputError("is truncated, damaged or of no known format", path=name, mend="fetch it again") from error
        raise InputError("is not a picture that can be read", path=name, mend="convert it to JPEG or PNG") from error
    except _DAMAGED as error:
        raise _damaged(name, error) from error
    _check_pixels(image.height, image.width, name)
    return image


def _orientation(image: PilImage) -> int:
    # Pillow has turned a TIFF already. Broken EXIF is no reason to refuse a picture: it counts as upright.
    if image.format == "TIFF":
        return 1
    try:
        value = int(image.getexif().get(0x0112, 1))
    except (*_DAMAGED, AttributeError):
        return 1
    return value if 1 <= value <= 8 else 1


def decode_with_mask(data: bytes, name: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray | None]:
    """The picture in a file's bytes (H, W, 3), uint8 RGB, and its alpha (H, W) uint8; None where it has none."""
    if data.startswith(_JPEG):
        return decode_image(data, name), None
    samples, _ = _pillow_samples(data, name)
    if samples.ndim == 3 and samples.shape[2] == 4 and samples.dtype == np.uint8:
        return np.ascontiguousarray(samples[..., :3]), np.ascontiguousarray(samples[..., 3])
    return to_rgb(samples), None


def _decode_by_pillow(data: bytes, name: str | os.PathLike[str]) -> np.ndarray:
    samples, orientation = _pillow_samples(data, name)
    return upright(to_rgb(samples), orientation)


def _pillow_samples(data: bytes, name: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    image = open_picture(io.BytesIO(data), name)
    orientation = _orientation(image)
    try:
        return _samples(image), orientation
    except _DAMAGED as error:
        text = str(error).lower()
        raise (_truncated(name) if "truncated" in text or "eof" in text else _damaged(name, error)) from error
    except MemoryError as error:
        raise InputError("too large for this machine's memory", path=name, mend="reduce it") from error


def _samples(image: PilImage) -> np.ndarray:
    has_alpha = "A" in image.getbands() or "transparency" in image.info or image.mode in ("La", "RGBa")
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        return np.clip(np.asarray(image), 0, 65535).astype(np.uint16)
    if image.mode == "F":
        return np.asarray(image)
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """A stored picture (H, W[, C]) turned as its EXIF orientation (1 to 8) says."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def encode_image(rgb: np.ndarray, suffix: str, quality: int = 95, photo: bool = False) -> bytes:
    """The bytes of a file for uint8 RGB (H, W, 3), grey (H, W) or RGBA: `suffix` says the format, such as `.png`.

    JPEG leaves the fourth channel out.

    quality: of JPEG and WebP, 1 to 100. photo: it holds no flat colours, so that a PNG of RGB is made with little
    search for repetitions: in a third of the time, a fiftieth larger. Raises UsageError for a suffix that is not
    written.
    """
    suffix = suffix.lower()
    if suffix not in WRITABLE:
        raise UsageError(f"no picture is written as {suffix or 'a name without suffix'}", mend="use .png or .jpg")
    if photo and suffix == ".png" and rgb.ndim == 3 and rgb.shape[2] == 3:
        return _photo_png(rgb)
    cv2 = import_cv2()
    options = {
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, quality],
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, quality],
    }.get(suffix, [])
    if rgb.ndim == 3 and rgb.shape[2] >= 3:
        opaque = cv2.COLOR_RGBA2BGR if suffix in (".jpg", ".jpeg") else cv2.COLOR_RGBA2BGRA
        rgb = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2BGR if rgb.shape[2] == 3 else opaque)
    try:
        done, buffer = cv2.imencode(suffix, rgb, options)
    except cv2.error as error:
        raise UsageError(f"{rgb.shape[1]}x{rgb.shape[0]} pixels do not fit into {suffix}", mend="use .png") from error
    if not done:
        raise UsageError(f"{rgb.shape[1]}x{rgb.shape[0]} pixels do not fit into {suffix}", mend="use .png")
    return buffer.tobytes()


def _photo_png(rgb: np.ndarray) -> bytes:
    """The PNG file of uint8 RGB (H, W, 3), each pixel as its difference to the left one.

    Source: W3C, Portable Network Graphics (filter type 1, "Sub").
    """
    from isal import isal_zlib

    height, width = rgb.shape[:2]
    pixels = rgb.reshape(height, 3 * width)
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 1
    rows[:, 1:4] = pixels[:, :3]
    np.subtract(pixels[:, 3:], pixels[:, :-3], out=rows[:, 4:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB, not interlaced
    chunks = (b"IHDR", header), (b"IDAT", isal_zlib.compress(rows, 1)), (b"IEND", b"")
    return _PNG + b"".join(_png_chunk(*chunk) for chunk in chunks)


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


def write_image(path: str | os.PathLike[str], rgb: np.ndarray, quality: int = 95) -> None:
    """Write uint8 RGB (H, W, 3) in the format of the path's suffix, whole or not at all.

    Raises UsageError for an unknown suffix, OutputError where the system refuses.
    """
    data = encode_image(rgb, Path(path).suffix, quality)
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def with_png_text(png: bytes, key: str, text: str) -> bytes:
    """The same PNG with a text chunk (ASCII) behind its header."""
    chunk = _png_chunk(b"tEXt", key.encode("latin-1") + b"\0" + text.encode("ascii"))
    after_header = len(_PNG) + 25
    return png[:after_header] + chunk + png[after_header:]


def png_text(path: str | os.PathLike[str], key: str) -> str | None:
    """A PNG file's text under a key that with_png_text wrote; None where there is none or the file is no PNG."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(4096)
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    at = len(_PNG)
    while head.startswith(_PNG) and at + 8 <= len(head):
        length, kind = struct.unpack_from(">I4s", head, at)
        body = head[at + 8 : at + 8 + length]
        if kind == b"tEXt" and body.startswith(key.encode("latin-1") + b"\0"):
            return body[len(key) + 1 :].decode("latin-1")
        at += 12 + length
    return None


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """All picture files below a folder, sorted; hidden ones and polar maps (*.polar.png) are passed over.

    Linked folders are followed, each real folder once. Raises InputError where a folder is missing or cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise explain_os_error(error, error.filename or folder, "read") from error

    found, seen = [], set()
    for here, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(here)
        folders[:] = [] if real in seen else sorted(name for name in folders if not name.startswith("."))
        if real not in seen:
            found += [Path(here, name) for name in files if _is_listed(name)]
        seen.add(real)
    return sorted(found)


def _is_listed(name: str) -> bool:
    lower = name.lower()
    return not name.startswith(".") and not lower.endswith(POLAR_SUFFIX) and Path(lower).suffix in SUFFIXES
