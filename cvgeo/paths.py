"""Where things live, and how files appear: whole or not at all."""

from __future__ import annotations

import atexit
import ctypes
import glob
import hashlib
import itertools
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from cvgeo.errors import CvgeoError, NoRoomError, OutputError, UnfetchedError, explain_os_error

WRITERS = 4  # threads that make the files of a batch


def _user_dir(variable: str, kind: str) -> Path:
    if os.environ.get(variable):
        return Path(os.environ[variable]).expanduser()
    import platformdirs

    return Path(getattr(platformdirs, f"user_{kind}_dir")("cvgeo"))


def data_dir() -> Path:
    """Folder in which data sets are looked up by name: `$CVGEO_DATA`, else the user's data folder."""
    return _user_dir("CVGEO_DATA", "data")


def cache_dir() -> Path:
    """Folder for what can be made again: `$CVGEO_CACHE`, else the user's cache folder."""
    return _user_dir("CVGEO_CACHE", "cache")


def state_dir() -> Path:
    """Folder for what is remembered between calls: `$CVGEO_STATE`, else the user's state folder."""
    return _user_dir("CVGEO_STATE", "state")


def config_file() -> Path:
    """The user's settings: `$CVGEO_CONFIG`, else `config.toml` in the user's configuration folder."""
    if os.environ.get("CVGEO_CONFIG"):
        return Path(os.environ["CVGEO_CONFIG"]).expanduser()
    return _user_dir("CVGEO_CONFIG_DIR", "config") / "config.toml"


def _temporary_beside(path: Path) -> Path:
    # Hidden and in the same folder: the rename at the end stays within one file system.
    return path.with_name(_temporary_name(path.name, uuid.uuid4().int))


def _temporary_name(name: str, number: int) -> str:
    return f".{_start(name)}.{number % 2**32:08x}.part"


def _start(name: str) -> str:
    # Of at most 100 bytes, so that what is added fits a file system's 255, and UTF-8, which libraries may insist on.
    return os.fsencode(name)[:100].decode("utf-8", "ignore")


def _sweep(folder: Path) -> None:
    # A killed process cannot remove the file that it was writing; whoever ends its work does.
    for left in folder.rglob(".*.????????.part"):
        left.unlink(missing_ok=True)


def _sync(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; on success it is fsynced and renamed to `path`, on any error removed.

    The parent folder is created. Raises OutputError where the system refuses (full disk, permissions).
    """
    target = Path(path)
    temporary = _temporary_beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        move_into_place(temporary, target)
    except OSError as error:
        raise explain_os_error(error, target) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


_Named = list[tuple[str, str]]  # temporary and final paths


class FileBatch:
    """Files that appear whole or not at all, many at a time, so that one sync of the file system serves them all.

    A context manager; threads may share it. Files are written and put in place in threads of its own, since making a
    file in a busy file system is mostly waiting. A file that is not yet there when the process is killed was written to
    a hidden temporary name only. Leaving it, by an exception too, puts in place all that was written until then.
    """

    def __init__(self, size: int = 512):
        self.size = size
        self._lock = threading.Lock()
        self._numbers = itertools.count(uuid.uuid4().int % 2**32)  # of temporary names; unlike another process's
        self._waiting: list[tuple[Future[None], _Named]] = []
        self._count = 0
        self._failed: _Named = []  # of which some could not be put in place: removed at the end
        self._placed: Future[None] | None = None
        self._writers = ThreadPoolExecutor(WRITERS)
        self._placer = ThreadPoolExecutor(1)

    def __enter__(self) -> FileBatch:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        try:
            self.flush()
        except OutputError:
            if kind is None:
                raise
        finally:
            # What is under way waits for the writers.
            self._placer.shutdown(wait=True)
            self._writers.shutdown(wait=True)
            _remove([*self._failed, *(one for _, named in self._waiting for one in named)])

    def write(self, path: Path, data: bytes) -> None:
        """Write a file into an existing folder. Raises OutputError, here or later, where the system refuses."""
        self.write_all([(path, data)])

    def write_all(self, files: Sequence[tuple[Path, bytes]]) -> None:
        """Write files as `write` does, handed over together."""
        named = []
        for path, _ in files:
            folder, name = os.path.split(path)
            named.append((os.path.join(folder, _temporary_name(name, next(self._numbers))), str(path)))
        contents = [data for _, data in files]
        with self._lock:
            self._waiting.append((self._writers.submit(_write_files, named, contents), named))
            self._count += len(named)
            full = self._count >= self.size
        if full:
            self._place()

    def flush(self) -> None:
        """Put all files in place that were written until now."""
        self._place()
        with self._lock:
            placed = self._placed
        if placed is not None:
            placed.result()

    def settle(self) -> dict[Path, CvgeoError]:
        """Put in place what can be of all that was written until now; the errors of the rest, by its paths."""
        failed: dict[Path, CvgeoError] = {}
        written: _Named = []
        for writing, named in self._taken():
            error = writing.exception()
            if error is None:
                written += named
            elif isinstance(error, CvgeoError):
                failed |= {Path(path): error for _, path in named}
                _remove(named)
            else:
                raise error
        self._put(written, [])
        return failed

    def _taken(self) -> list[tuple[Future[None], _Named]]:
        with self._lock:
            ready, self._waiting, self._count = self._waiting, [], 0
        return ready

    def _place(self) -> None:
        """Begin to put in place what was written, once what was begun before is done."""
        ready = self._taken()
        if not ready:
            return
        with self._lock:
            before = self._placed
            named = [one for _, some in ready for one in some]
            self._placed = self._placer.submit(self._put, named, [writing for writing, _ in ready])
        if before is not None:
            before.result()

    def _put(self, ready: _Named, written: Sequence[Future[None]]) -> None:
        path = ready[0][1] if ready else ""  # of which an error tells
        try:
            for one in written:
                one.result()
            for folder in _one_of_each_device({os.path.dirname(path) for _, path in ready}):
                _sync_file_system(folder)
            for temporary, path in ready:
                os.replace(temporary, path)
            for folder in {os.path.dirname(path) for _, path in ready}:
                _sync(folder)
        except BaseException as error:
            with self._lock:
                self._failed += ready
            if isinstance(error, OSError):
                raise explain_os_error(error, path) from error
            raise


def _write_files(named: _Named, contents: Sequence[bytes]) -> None:
    for (temporary, path), data in zip(named, contents, strict=True):
        try:
            Path(temporary).write_bytes(data)
        except OSError as error:
            raise explain_os_error(error, path) from error


def _remove(named: _Named) -> None:
    for temporary, _ in named:
        with suppress(OSError):
            os.unlink(temporary)


def _one_of_each_device(folders: set[str]) -> list[str]:
    return list({os.stat(folder).st_dev: folder for folder in folders}.values())


def _sync_file_system(path: str | os.PathLike[str]) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        # Python has no name for it; `os.sync` would wait for every other disk as well.
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(handle)


def move_into_place(finished: Path, target: Path) -> None:
    """Rename a finished file to `target` in the same folder, such that it is whole even after a loss of power."""
    _sync(finished)
    os.replace(finished, target)
    _sync(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a small UTF-8 text file, whole or not at all; file names in it that are not UTF-8 keep their bytes."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="surrogateescape")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


# Waits until the program says so or is no more, a signal to its terminal or group notwithstanding.
_REMOVER = """trap '' HUP INT TERM; read -r ended; rm -rf -- "$1" """


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Give a new temporary folder, removed at the end of the block or, by a process of its own, of a killed program."""
    import subprocess

    folder = Path(tempfile.gettempdir(), f"cvgeo-{uuid.uuid4().hex[:12]}")
    words, silent = ["sh", "-c", _REMOVER, "sh", folder], subprocess.DEVNULL
    # Started first, so that there is no moment in which a kill leaves the folder.
    remover = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=silent, stderr=silent, cwd="/", start_new_session=True
    )
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        remover.communicate(b"\n")


@lru_cache(maxsize=1)
def _links() -> Path:
    held = ExitStack()
    folder = held.enter_context(scratch_folder())
    atexit.register(held.close)
    return folder


def utf8_path(path: str | os.PathLike[str]) -> str:
    """A path for a library that takes UTF-8 only: its own, or one by way of a link where a name in it is not UTF-8.

    The link is there until the program ends. One to a file takes those beside it along that are called like it (world
    files, overviews); a file that is not there yet may be written where its own name is UTF-8, as that of `atomic_file`
    is. Raises OutputError where no link can be made.
    """
    text = os.fspath(path)
    if _is_utf8(text):
        return text
    folder, name = os.path.split(os.path.abspath(text))
    try:
        home = os.path.join(_links(), hashlib.sha256(os.fsencode(folder)).hexdigest()[:16])
        if _is_utf8(name):
            _link(folder, home)
            return os.path.join(home, name)
        os.makedirs(f"{home}.files", exist_ok=True)
        stem, suffix = os.path.splitext(name)
        shown = f"{hashlib.sha256(os.fsencode(stem)).hexdigest()[:16]}-{_start(stem)}"
        with os.scandir(folder) as files:
            for one in files:
                if one.name.startswith(f"{stem}.") and _is_utf8(rest := one.name.removeprefix(stem)):
                    _link(one.path, os.path.join(f"{home}.files", shown + rest))
        whole = os.path.join(f"{home}.files", shown + os.fsencode(suffix).decode("utf-8", "ignore"))
        _link(os.path.join(folder, name), whole)
    except OSError as error:
        raise explain_os_error(error, path) from error
    return whole


def _link(target: str, link: str) -> None:
    with suppress(FileExistsError):
        os.symlink(target, link)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it is renamed to `path` (which must not exist), else removed."""
    target = Path(path)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("already exists", path=target, mend="name another folder or remove it first")
    temporary = _temporary_beside(target)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        with suppress(FileNotFoundError):
            target.rmdir()
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        raise explain_os_error(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def resumable_folder(path: str | os.PathLike[str], fingerprint: str, overwrite: bool = False) -> Iterator[Path]:
    """Give a folder to fill, in which an interrupted call of this fingerprint goes on; renamed to `path` at the end.

    `path` itself appears whole or not at all. What is half done lies beside it, hidden, named by the fingerprint; it is
    kept when the process is interrupted or killed and when the network fails, and removed when the work fails. With
    `overwrite` a folder at `path` is replaced at the very end. Raises OutputError where `path` is taken, or where the
    system refuses.
    """
    target = Path(os.path.abspath(path))
    if not overwrite and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("already exists", path=target, mend="name another folder or give --overwrite")
    building = target.with_name(f".{_start(target.name)}.{fingerprint[:16]}.building")
    try:
        building.mkdir(parents=True, exist_ok=True)
        yield building
        _sweep(building)
        _put_in_place(building, target)
        # What interrupted calls with other settings have left behind.
        for stale in target.parent.glob(f".{glob.escape(_start(target.name))}.*.building"):
            shutil.rmtree(stale, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(building, ignore_errors=True)
        raise explain_os_error(error, target) from error
    except UnfetchedError:
        if not any(path.is_file() for path in building.rglob("*")):
            shutil.rmtree(building, ignore_errors=True)
        raise
    except Exception:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _put_in_place(building: Path, target: Path) -> None:
    old = _temporary_beside(target)
    if target.exists():
        os.replace(target, old)
    os.replace(building, target)
    _sync(target.parent)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old, ignore_errors=True)
    else:
        old.unlink(missing_ok=True)


def check_space(
    path: str | os.PathLike[str], what: str, expected: float, least: float = 0, mend: str = "name another folder"
) -> str | None:
    """Whether `what` has room on the disk of `path`, which need not exist yet; sizes in bytes.

    Returns one line to warn of where less than `expected` is free, None where all is well or the system does not say.
    Raises OutputError where less than `least` is free, so that the work surely cannot end well.
    """
    try:
        folder = Path(os.path.abspath(path))
        free = shutil.disk_usage(next(one for one in (folder, *folder.parents) if one.exists())).free
    except OSError:
        return None
    if least > free:
        fault = f"{what} of {_bytes(least)} does not fit into the {_bytes(free)} that are free"
        raise NoRoomError(fault, path=path, mend=f"free some space or {mend}")
    if expected > free:
        return f"{path}: {what} takes about {_bytes(expected)}, and {_bytes(free)} are free"
    return None


def _bytes(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def require_readable(path: str | os.PathLike[str]) -> None:
    """Raise InputError for a file that cannot be opened: libraries tell only that it is not there, or not theirs."""
    try:
        with open(path, "rb"):
            return
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def quick_digest(path: str | os.PathLike[str], samples: int = 16, piece: int = 65536) -> str:
    """A digest of a file's size and of pieces spread over it: tells inputs apart without reading gigabytes.

    Small files are read whole. A change of the same size between the pieces of a large file goes unseen.
    """
    with open(path, "rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        if size <= samples * piece:
            digest.update(handle.read())
        else:
            for number in range(samples):
                handle.seek((size - piece) * number // (samples - 1))
                digest.update(handle.read(piece))
    return digest.hexdigest()


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
