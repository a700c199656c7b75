"""Ground pictures in files: one file each, or a cube map of six.

Six files make a cube map when their names differ only in which face they show: `front`, `right`, `back`, `left`, `up`,
`down`, or their first letters, or 0 to 5 in this order, alone or behind `_`, `-` or `.`: `place7_front.jpg`, `7-f.png`,
`0.jpg`. The front stands for all six.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from cvgeo.data.images import image_size, read_image
from cvgeo.errors import InputError
from cvgeo.geometry.projections import CUBE, FACES, cube_layout, join_faces
from cvgeo.geometry.shapes import GeometryError

_SPELLINGS = (FACES, tuple(name[0] for name in FACES), tuple("012345"))
_FACE = re.compile(rf"(?P<place>(?:.*[-_.])?)(?P<face>{'|'.join(FACES)}|[frblud0-5])", re.IGNORECASE)


def face_files(path: Path) -> list[Path] | None:
    """The files of a cube map's six faces, in the order of FACES, of which `path` is one; None for another name."""
    match = _FACE.fullmatch(path.stem)
    if match is None:
        return None
    face = match["face"]
    spelling = next(names for names in _SPELLINGS if face.lower() in names)
    alike = str.upper if face.isupper() else str.title if face[0].isupper() else str.lower
    return [path.with_name(match["place"] + alike(name) + path.suffix) for name in spelling]


def is_face(path: Path) -> bool:
    """Whether a picture and five others beside it are the faces of a cube map by their names and sizes."""
    files = face_files(path)
    if files is None or not all(file.is_file() for file in files):
        return False
    try:
        sizes = {image_size(file) for file in files}
    except InputError:
        return False
    height, width = sizes.pop()
    return height == width and not sizes


def parts(path: Path, projection: str = "") -> list[Path]:
    """The files that a ground picture is read from: the six of a cube map, as far as they are there, else itself."""
    files = face_files(path) if projection == CUBE else None
    return [file for file in files if file.is_file()] or [path] if files else [path]


def fronts(paths: Iterable[Path], projection: str = "") -> Iterator[Path]:
    """The paths with each six files of a cube map as one: its front, where the first of them stood.

    Where `projection` does not say that they are cube maps, their names and sizes must.
    """
    told: set[Path] = set()
    for path in paths:
        is_cube = projection == CUBE or (not projection and is_face(path))
        front = (face_files(path) or [path])[0] if is_cube else path
        if front not in told:
            told.add(front)
            yield front if front.exists() else path


def _six_files(path: Path) -> list[Path]:
    files = face_files(path)
    if files is None:
        mend = f"name its files ..._{', ..._'.join(FACES)}, or give 3x2, 6x1, 1x6 or 4x3 squares in one picture"
        raise InputError("a square is one face of a cube map, but its name does not say which", path=path, mend=mend)
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(f"faces of this cube map are missing: {', '.join(missing)}", path=path, mend="add them")
    return files


def check_cube(path: Path, height: int, width: int) -> None:
    """Raise InputError unless a picture of this size is a cube map, or a face beside which the five others are."""
    if height == width:
        _six_files(path)
        return
    try:
        cube_layout(height, width)
    except GeometryError as error:
        error.path = str(path)
        raise


def read_ground(path: Path, projection: str = "") -> np.ndarray:
    """A ground picture (H, W, 3) uint8; a cube map of six files is joined into one of 6x1 squares.

    Raises InputError where a file cannot be read, a face is missing, or they differ in size.
    """
    image = read_image(path)
    if projection != CUBE or image.shape[0] != image.shape[1]:
        return image
    faces = [read_image(file) for file in _six_files(path)]
    if any(face.shape != image.shape for face in faces):
        sizes = ", ".join(sorted({f"{face.shape[1]}x{face.shape[0]}" for face in faces}))
        raise InputError(f"the faces of this cube map differ in size: {sizes}", path=path, mend="make them alike")
    return join_faces(np.stack(faces))
