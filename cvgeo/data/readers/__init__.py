"""Readers: one file a data set, each turning a layout on disk into the one schema.

A new data set is one module here whose function `read(folder) -> Dataset` carries the decorator `reader`. One with
several protocols lists them as `variants`; its function is `read(folder, variant) -> Dataset`, and a user names one
after a colon: `vigor:cross`.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from cvgeo.data.schema import Dataset
from cvgeo.errors import InputError, UsageError
from cvgeo.memory import collector_paused
from cvgeo.paths import data_dir

Read = Callable[..., Dataset]

DESCRIBING = (".toml", ".csv", ".mat")  # suffixes of the files that tell what is in a data set


@dataclass(frozen=True)
class Reader:
    """A layout: how it is recognised and read, what it looks like, and who gives access to the data set.

    `variants` are the names of its protocols with what they mean, the default one first.
    """

    name: str
    recognises: Callable[[Path], bool]
    read: Read
    layout: str
    access: str = ""
    variants: dict[str, str] = field(default_factory=dict)


_READERS: dict[str, Reader] = {}


def reader(
    name: str,
    recognises: Callable[[Path], bool],
    layout: str,
    access: str = "",
    variants: dict[str, str] | None = None,
) -> Callable[[Read], Read]:
    """Decorator that adds a layout. `recognises(folder)` looks at names only and must be true for no other layout."""

    def add(read: Read) -> Read:
        _READERS[name] = Reader(name, recognises, read, layout, access, variants or {})
        return read

    return add


def readers() -> dict[str, Reader]:
    """All readers by name, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(_READERS.items()))


def _missing(name: str) -> InputError:
    known = readers().get(name.lower())
    fault = f"no data set of that name in {data_dir()}, and no such folder"
    if known is None:
        return InputError(fault, path=name, mend="give a folder, or set CVGEO_DATA to where your data sets are")
    mend = f"{known.access} Expected layout: {known.layout}".strip()
    return InputError(fault, path=name, mend=mend)


def find_dataset(name_or_path: str | os.PathLike[str]) -> Path:
    """The folder of a data set: a bare name is looked up in `$CVGEO_DATA` (else the user's data folder), then here.

    A path may name the folder or a file in it that describes it (`dataset.toml`, `pairs.csv`). Raises InputError that
    says, for a known data set, who gives access to it and which layout is expected.
    """
    text = os.fspath(name_or_path)
    if text and os.sep not in text and text not in (".", "..") and isinstance(name_or_path, str):
        for name in (text, text.lower(), text.upper()):
            if (data_dir() / name).is_dir():
                return data_dir() / name
    path = Path(text)
    if path.is_file():
        return _described_by(path)
    if not text or not path.is_dir():
        raise _missing(text)
    return path


def _described_by(path: Path) -> Path:
    """The folder of the data set that a file in it describes. Raises InputError for any other file."""
    folder = path.parent
    if path.suffix.lower() in DESCRIBING and any(one.recognises(folder) for one in readers().values()):
        return folder
    raise InputError("is a file, and describes no data set", path=path, mend="name the folder of a data set")


def reader_of(folder: Path) -> Reader:
    """The reader that recognises a folder. Raises InputError with the known layouts where none does."""
    for candidate in readers().values():
        if candidate.recognises(folder):
            return candidate
    layouts = "; ".join(f"{one.name}: {one.layout}" for one in readers().values())
    raise InputError("no known data set layout", path=folder, mend=f"known layouts: {layouts}")


def split_variant(name_or_path: str | os.PathLike[str]) -> tuple[str | os.PathLike[str], str | None]:
    """A reference and the variant behind its last colon, as in `vigor:cross`; a path that is there is taken whole."""
    if not isinstance(name_or_path, str) or ":" not in name_or_path or os.path.exists(name_or_path):
        return name_or_path, None
    name, _, variant = name_or_path.rpartition(":")
    return name, variant


def chosen_reader(name_or_path: str | os.PathLike[str]) -> tuple[Path, Reader, str | None]:
    """Folder, reader and variant of a reference; the variant is the reader's first one unless named, None without any.

    Raises as `find_dataset` and `reader_of`, and UsageError for a variant that the layout does not have.
    """
    name, variant = split_variant(name_or_path)
    folder = find_dataset(name)
    found = reader_of(folder)
    if variant is not None and variant not in found.variants:
        near = get_close_matches(variant, found.variants, n=1)
        known = "; ".join(f"{key}: {text}" for key, text in found.variants.items()) or "none"
        mend = f"did you mean {near[0]}?" if near else f"known: {known}"
        raise UsageError(f"{found.name} has no variant {variant!r}", path=folder, mend=mend)
    return folder, found, variant or next(iter(found.variants), None)


def open_dataset(name_or_path: str | os.PathLike[str]) -> Dataset:
    """Read a data set by name or path, with `:variant` or without, into the one schema.

    Raises InputError that names the file, line and fault, UsageError for a variant that the layout does not have.
    """
    folder, found, variant = chosen_reader(name_or_path)
    with collector_paused():
        return found.read(folder) if variant is None else found.read(folder, variant)
