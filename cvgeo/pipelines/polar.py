"""Polar maps of aerial pictures: what is read, computed and written, in order."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cvgeo.data.images import (
    POLAR_SUFFIX,
    decode_image,
    encode_image,
    list_images,
    looks_like_picture,
    png_text,
    read_bytes,
    with_png_text,
)
from cvgeo.errors import CvgeoError, InputError, MismatchError, NoRoomError, OutputError, UsageError, explain_os_error
from cvgeo.geometry.opencv import import_cv2
from cvgeo.geometry.polar import own_heading, polar_transform
from cvgeo.paths import FileBatch, atomic_file, check_space
from cvgeo.report import Reporter

PNG_KEY = "cvgeo"  # of the text chunk that says how a map was made

TOGETHER = 256  # maps that are synced at once
MANY = 64  # pictures, from which on that is done
NEVER_FULL = 1 << 62
TYPICAL_BYTES, LEAST_BYTES = 2.0, 0.05  # a pixel of a PNG: of a photograph, and of an even colour

_Made = tuple[Path, dict[str, Any] | CvgeoError | None]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class PolarSettings:
    """How maps are made. `column0_heading` in degrees clockwise from north; None means the convention's own."""

    height: int = 112
    width: int = 616
    convention: str = "paper"
    column0_heading: float | None = None

    def record(self) -> dict[str, Any]:
        """The resolved settings, JSON-ready."""
        return {
            "height": self.height,
            "width": self.width,
            "convention": self.convention,
            "column0_heading": own_heading(self.convention, self.column0_heading) % 360,
        }


def polar_bytes(data: bytes, name: str, settings: PolarSettings) -> bytes:
    """The PNG file of the polar map of a picture file's bytes; `name` is what errors call it.

    A text chunk holds the settings and the picture's SHA-256, by which a later run knows its own work.
    Raises InputError for a picture that cannot be read or is far from square.
    """
    image = decode_image(data, name)
    try:
        polar = polar_transform(image, settings.height, settings.width, settings.convention, settings.column0_heading)
    except InputError as error:
        raise InputError(error.fault, path=name, mend=error.mend) from error
    return with_png_text(encode_image(polar, ".png", photo=True), PNG_KEY, _made_from(data, settings))


def _made_from(data: bytes, settings: PolarSettings) -> str:
    return json.dumps({"input_sha256": hashlib.sha256(data).hexdigest(), **settings.record()}, sort_keys=True)


@dataclass
class Outputs:
    """Where each map goes: beside its picture, into a folder (which mirrors folders given), or to one PNG file.

    A map is called like its picture, with `suffix`.
    """

    output: Path | None = None
    suffix: str = POLAR_SUFFIX
    claimed: dict[Path, Path] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether the output named is one file."""
        return self.output is not None and self.output.suffix.lower() == ".png" and not self.output.is_dir()

    def check(self, names: Iterable[str]) -> None:
        """Raise UsageError for an output that is neither a folder nor a PNG file, or one file for many pictures."""
        if self.is_file and isinstance(names, list) and (len(names) > 1 or Path(names[0]).is_dir()):
            raise UsageError("one file cannot take many maps", path=self.output, mend="name a folder")
        if self.output is None or self.is_file or self.output.is_dir():
            return
        known = (".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
        if self.output.exists() or self.output.suffix.lower() in known:
            raise UsageError("is no folder and no .png file", path=self.output, mend="maps are written as PNG")

    def of(self, picture: Path, folder: Path | None) -> Path | None:
        """The map's path for a picture (found below `folder`, or given itself); None for a picture seen already.

        Raises InputError where two pictures would become one map.
        """
        name = picture.stem + self.suffix
        if self.output is None:
            target = picture.with_name(name)
        elif self.is_file:
            target = self.output
        else:
            target = self.output / (picture.relative_to(folder).parent if folder else "") / name
        first = self.claimed.setdefault(target, picture)
        if first is not picture and first == picture:
            return None
        if first is not picture:
            raise InputError(f"its map would replace that of {first}", path=picture, mend="name another output for it")
        if target == picture or (target.exists() and picture.exists() and target.samefile(picture)):
            raise InputError("its map would replace the picture itself", path=picture, mend="name another output")
        return target


def make_map(
    data: bytes,
    name: str,
    target: Path,
    settings: PolarSettings,
    overwrite: bool,
    write: Callable[[Path, bytes], None] | None = None,
) -> dict[str, Any]:
    """Make the map of one picture file's bytes, unless it is there already; returns its record.

    write: puts a file into an existing folder; whole and at once by default. Raises InputError for a bad picture,
    MismatchError where the output exists and was made otherwise, OutputError.
    """
    if overwrite or not _is_made(data, target, settings):
        png = polar_bytes(data, name, settings)
        _make_folder(target)
        (write or _write_at_once)(target, png)
    return {"input": name, "output": str(target), **settings.record()}


def _make_folder(target: Path) -> None:
    if target.parent.is_dir():
        return
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, target) from error


def _is_made(data: bytes, target: Path, settings: PolarSettings) -> bool:
    if not target.exists():
        return False
    if target.is_dir() or png_text(target, PNG_KEY) != _made_from(data, settings):
        fault = "exists and was made from another picture or with other settings"
        raise MismatchError(fault, path=target, mend="add --overwrite or name another output with -o")
    return True


def find_pictures(names: Iterable[str]) -> Iterator[tuple[Path, Path | CvgeoError | None]]:
    """Each picture named with None, each picture below a folder named with that folder, a bad folder with its error."""
    for name in names:
        path = Path(name)
        if not path.is_dir():
            yield path, None
            continue
        try:
            found = list_images(path)
        except CvgeoError as error:
            yield path, error
            continue
        if not found:
            yield path, InputError("the folder holds no pictures", path=path, mend="name one that does")
        yield from ((picture, path) for picture in found)


def read_names(handle: int, null: bool = False) -> tuple[bytes, Iterator[str]]:
    """What comes through a file descriptor: a picture's bytes, or (empty bytes and) paths, one a line, as they come.

    With `null` it is paths, each ended by a null byte, that may hold anything else.
    """
    if null:
        return b"", filter(None, _ended(handle, os.read(handle, 1 << 16), b"\0"))
    head = os.read(handle, 1 << 16)
    while 0 < len(head) < 4 and (more := os.read(handle, 1 << 16)):
        head += more
    if looks_like_picture(head):
        parts = [head]
        while parts[-1]:
            parts.append(os.read(handle, 1 << 20))
        return b"".join(parts), iter(())
    return b"", (line.rstrip("\r") for line in _ended(handle, head, b"\n") if line.strip())


def _ended(handle: int, more: bytes, end: bytes) -> Iterator[str]:
    # Not sys.stdin: its lock, held by a waiting thread, would make the interpreter's end fail.
    rest = b""
    while more:
        *names, rest = (rest + more).split(end)
        yield from map(os.fsdecode, names)
        more = os.read(handle, 1 << 16)
    yield os.fsdecode(rest)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item], jobs: int) -> Generator[Result, None, None]:
    """Results of `work` as they are done, by `jobs` threads that take an item only when they are free for it.

    So that a writer that waits for an answer before its next item gets one. What `items` raises is raised here.
    """
    source, taking, stop = iter(items), threading.Lock(), threading.Event()
    working = [threading.Lock() for _ in range(jobs)]
    done: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()

    def run(mine: threading.Lock) -> None:
        try:
            while not stop.is_set():
                with taking:
                    item = next(source)
                with mine:
                    if not stop.is_set():
                        done.put(("result", work(item)))
        except StopIteration:
            done.put(("end", None))
        except BaseException as error:
            done.put(("error", error))

    for lock in working:
        threading.Thread(target=run, args=(lock,), daemon=True).start()
    running = jobs
    try:
        while running:
            kind, value = done.get()
            if kind == "error":
                raise value
            if kind == "result":
                yield value
            else:
                running -= 1
    finally:
        # A thread may wait for stdin for ever, so none is joined; but none may be inside OpenCV when the program ends.
        stop.set()
        for lock in working:
            lock.acquire()


def make_maps(
    names: Iterable[str],
    output: Path | None,
    settings: PolarSettings,
    reporter: Reporter,
    overwrite: bool = False,
    jobs: int = 0,
) -> Generator[dict[str, Any], None, None]:
    """Polar maps of pictures and of folders of pictures; yields a record of each map as it is there.

    names: a list, or a stream whose items are taken as threads become free. jobs: threads; 0 takes one a core. Of many
    pictures, maps appear (whole) and are told of some at a time, since a sync of each would take most of the time. Bad
    pictures are reported and the rest is done. A map that exists and was made otherwise is left as it is. Where nothing
    could be done for that reason, or none could be written, that MismatchError or OutputError is raised.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    settings.record()
    outputs = Outputs(output)
    outputs.check(names)
    import_cv2().setNumThreads(1)

    pictures = find_pictures(names)
    if isinstance(names, list):
        pictures = list(pictures)
    many = isinstance(pictures, list) and len(pictures) >= MANY
    if many:
        _check_space(output, pictures, settings, reporter)
    # Closed here, so that the threads are at rest whatever ends this, and before the files that they write are.
    with FileBatch(NEVER_FULL) as files:
        maker = _Maker(outputs, settings, overwrite, files.write if many else _write_at_once)
        with closing(in_threads(maker.make, pictures, jobs)) as made:
            tracked = reporter.track(made, "polar maps", _length(pictures))
            yield from sorted_out(_in_place(tracked, files) if many else tracked, reporter)


def _check_space(output: Path | None, pictures: list[Any], settings: PolarSettings, reporter: Reporter) -> None:
    """Warn, or refuse, where the disk has no room for all maps. Raises OutputError."""
    pixels = len(pictures) * settings.height * settings.width
    least = 0 if output is None or output.exists() else LEAST_BYTES * pixels  # maps may be there already
    place = pictures[0][0].parent if output is None else output
    reporter.warn_if(check_space(place, f"a set of {len(pictures):,} maps", TYPICAL_BYTES * pixels, least))


def _write_at_once(path: Path, data: bytes) -> None:
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


@dataclass
class _Maker:
    """Makes the maps of pictures, in any thread, and writes them by `write`."""

    outputs: Outputs
    settings: PolarSettings
    overwrite: bool
    write: Callable[[Path, bytes], None]

    def make(self, found: tuple[Path, Path | CvgeoError | None]) -> _Made:
        """The record of a picture's map, or why there is none."""
        picture, folder = found
        if isinstance(folder, CvgeoError):
            return picture, folder
        try:
            target = self.outputs.of(picture, folder)
            if target is None:
                return picture, None
            data, name = read_bytes(picture), str(picture)
            return picture, make_map(data, name, target, self.settings, self.overwrite, self.write)
        except CvgeoError as error:
            return picture, error


def _in_place(made: Iterable[_Made], files: FileBatch) -> Iterator[_Made]:
    """Results of which the files are in place: some at a time, at least every second."""
    held: list[_Made] = []
    since = time.monotonic()
    for one in made:
        held.append(one)
        if len(held) >= TOGETHER or time.monotonic() - since > 1.0:
            yield from _settled(held, files)
            held, since = [], time.monotonic()
    yield from _settled(held, files)


def _settled(held: list[_Made], files: FileBatch) -> Iterator[_Made]:
    failed = files.settle()
    for picture, result in held:
        yield picture, failed.get(Path(result["output"]), result) if isinstance(result, dict) else result


def _length(items: Iterable) -> int | None:
    return len(items) if isinstance(items, list) else None


def sorted_out(results: Iterable[_Made], reporter: Reporter) -> Iterator[Any]:
    """Records as they come, errors reported; those that are no fault of a picture are held until something is done.

    Where nothing could be done for such a reason, the last of them is raised, and the others are not told of where one
    reason holds for all. A disk that is full or may only be read ends it at once.
    """
    held: list[tuple[Path, CvgeoError]] = []
    done = 0
    for picture, result in results:
        if isinstance(result, NoRoomError):
            raise result
        if isinstance(result, MismatchError | OutputError) and not done:
            held.append((picture, result))
        elif isinstance(result, CvgeoError):
            reporter.fail(str(picture), str(result))
        elif result is not None:
            done += 1
            yield result
    # A folder that may not be written to says it once.
    same = len({(type(error), getattr(error.__cause__, "errno", picture)) for picture, error in held}) == 1
    for picture, error in held if done else [] if same else held[:-1]:
        reporter.fail(str(picture), str(error))
    if held and not done:
        raise held[-1][1]
