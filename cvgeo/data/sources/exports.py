"""Exports of Mapillary and Panoramax: where and how their pictures were taken.

Mapillary: image entities of its API (v4) as JSON Lines, a JSON list, `{"data": [...]}`, GeoJSON, or CSV with a column
`id`. Read are `id`, `computed_geometry` or `geometry` (a GeoJSON point; in CSV also WKT) or `lat` and `lon`,
`computed_compass_angle` or `compass_angle` (of the picture's centre), `camera_type` (`perspective`, `spherical` or
`equirectangular`) or `is_pano`, `camera_parameters` (the first is the focal length in parts of the longer side), and
`computed_rotation` (angle and axis, from east, north, up to the camera's right, down, forward; passed over where
`exif_orientation` says that the picture lies on its side).

Panoramax: a STAC ItemCollection. Read are `id`, `geometry`, and of the properties `view:azimuth`, `pers:pitch`,
`pers:roll`, `original_file:name` and, in `pers:interior_orientation`, `field_of_view`.

Pictures are not fetched: they lie beside the export or below its folder, under the name that it gives (`file`,
`filename`, `original_file:name`), or named by their id.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cvgeo.data.images import list_images
from cvgeo.data.tables import CsvTable
from cvgeo.errors import InputError, explain_os_error
from cvgeo.geometry.projections import EQUIRECTANGULAR, PERSPECTIVE

SPHERICAL = ("spherical", "equirectangular")
_WKT = re.compile(r"POINT\s*Z?\s*\(\s*(\S+)\s+(\S+?)(?:\s+\S+)?\s*\)", re.IGNORECASE)
_UPRIGHT = (None, "", "1", 1)


@dataclass
class Entry:
    """One picture of an export: id, file name if any, numbers as `Positions` has them, projection, and its fault."""

    id: str
    file: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    projection: str = ""
    error: InputError | None = None


def is_json(path: Path) -> bool:
    """Whether a file starts as JSON does. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    except OSError as error:
        raise explain_os_error(error, path, "read") from error


def is_mapillary_table(table: CsvTable) -> bool:
    """Whether a CSV file has the columns of Mapillary's images in place of `file`, `lat`, `lon`."""
    named = "file" in table or "path" in table
    return not named and "id" in table and any(name in table for name in ("geometry", "computed_geometry", "is_pano"))


def read_table(table: CsvTable) -> list[Entry]:
    """The entries of a Mapillary export in CSV."""
    columns = {name: table.text(name) for name in table.columns}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [_entry({name: _plain(text) for name, text in row.items()}, table.path) for row in rows]


def _plain(text: str) -> Any:
    # Lists, objects and truth values stand in CSV as JSON or as Python writes them; an id stays a text.
    if text[:1] not in ("[", "{"):
        return {"true": True, "false": False, "": None}.get(text.lower(), text)
    try:
        return json.loads(text.replace("'", '"'))
    except ValueError:
        return text


def read_json(path: Path) -> list[Entry]:
    """The entries of an export in JSON or JSON Lines. Raises InputError for what is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise explain_os_error(error, path, "read") from error
    except UnicodeDecodeError as error:
        raise InputError("is not UTF-8 text", path=path, mend="export it again") from error
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise InputError("is nested too deeply for an export", path=path) from error
    except json.JSONDecodeError:
        values = _json_lines(text, path)
    if isinstance(values, dict):
        listed = next((values[key] for key in ("features", "data") if isinstance(values.get(key), list)), None)
        values = [values] if listed is None else listed
    if not values or not all(isinstance(value, dict) for value in values):
        mend = "give image entities of Mapillary, or a STAC ItemCollection of Panoramax"
        raise InputError("is no export of pictures", path=path, mend=mend)
    return [_entry(value, path) for value in values]


def _json_lines(text: str, path: Path) -> list[Any]:
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            values += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            raise InputError(f"line {number} is not well-formed JSON ({error})", path=path) from error
    return values


def _entry(value: dict[str, Any], path: Path) -> Entry:
    """An entity or a feature as an entry; what is wrong with it is kept as its error."""
    inside = value.get("properties")
    value = {**inside, **value} if isinstance(inside, dict) else value
    entry = Entry(str(value.get("id") or ""))
    try:
        if not entry.id:
            raise ValueError("it has no id")
        name = value.get("file") or value.get("filename") or value.get("original_file:name")
        entry.file = name if isinstance(name, str) else ""
        _place(entry, value)
        (_panoramax if _is_panoramax(value) else _mapillary)(entry, value)
    except ValueError as error:
        entry.error = InputError(f"picture {entry.id or '(unnamed)'}: {error}", path=path)
    return entry


def _is_panoramax(value: dict[str, Any]) -> bool:
    return "stac_version" in value or any(name.startswith(("view:", "pers:", "geovisio:")) for name in value)


def _number(value: Any, what: str) -> float:
    if value is None or value == "":
        return math.nan
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {what} {value!r} is not a number") from error
    if math.isinf(number):
        raise ValueError(f"its {what} is infinite")
    return number


def _numbers(value: Any, what: str, count: int) -> list[float] | None:
    # The first numbers of a list; None where there is none, or an empty one.
    if value is None or value == [] or value == "":
        return None
    if not isinstance(value, list) or len(value) < count:
        raise ValueError(f"its {what} {value!r} is not a list of {count} numbers")
    return [_number(one, what) for one in value[:count]]


def _place(entry: Entry, value: dict[str, Any]) -> None:
    for name in ("computed_geometry", "geometry"):
        point = value.get(name)
        if isinstance(point, str) and (match := _WKT.fullmatch(point.strip())):
            point = {"coordinates": [match[1], match[2]]}
        if isinstance(point, dict):
            where = _numbers(point.get("coordinates"), name, 2)
            if where is not None:
                entry.numbers["lon"], entry.numbers["lat"] = where
                return
    for ours, theirs in (("lat", ("lat", "latitude")), ("lon", ("lon", "lng", "longitude"))):
        entry.numbers[ours] = next((_number(value[name], name) for name in theirs if name in value), math.nan)


def _mapillary(entry: Entry, value: dict[str, Any]) -> None:
    kind, panorama = value.get("camera_type") or "", value.get("is_pano")
    if kind == "fisheye":
        raise ValueError("its camera is a fisheye, which is not read; export it as a perspective picture")
    if kind in SPHERICAL or (panorama is True and not kind):
        _sphere(entry)
    elif kind or panorama is False:
        entry.projection = PERSPECTIVE
        focal = _numbers(value.get("camera_parameters"), "camera_parameters", 1)
        if focal is not None and not focal[0] > 0:
            raise ValueError(f"its focal length {focal[0]:g} is not above 0")
        entry.numbers["focal"] = math.nan if focal is None else focal[0]
    rotation = _numbers(value.get("computed_rotation"), "computed_rotation", 3)
    if rotation is not None and value.get("exif_orientation") in _UPRIGHT:
        entry.numbers.update(zip(("heading", "pitch", "roll"), pose_of_rotation(rotation), strict=True))
    for name in ("computed_compass_angle", "compass_angle"):
        heading = _number(value.get(name), name)
        if not math.isnan(heading):
            entry.numbers["heading"] = heading
            return


def pose_of_rotation(rotation: list[float]) -> tuple[float, float, float]:
    """Heading, pitch and roll in degrees of an angle-axis rotation (3,) in radians.

    It turns east, north, up into the camera's right, down, forward, as OpenSfM and Mapillary have it.
    """
    axis = np.array(rotation)
    angle = float(np.linalg.norm(axis))
    x, y, z = axis / angle if angle > 0 else axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    right, _, forward = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
    heading = math.atan2(forward[0], forward[1])
    sideways = np.array([math.cos(heading), -math.sin(heading), 0.0])
    roll = math.atan2(-right @ np.cross(sideways, forward), right @ sideways)
    pitch = math.asin(float(np.clip(forward[2], -1, 1)))
    return math.degrees(heading) % 360, math.degrees(pitch), math.degrees(roll)


def _panoramax(entry: Entry, value: dict[str, Any]) -> None:
    numbers = entry.numbers
    for ours, theirs in (("heading", "view:azimuth"), ("pitch", "pers:pitch"), ("roll", "pers:roll")):
        numbers[ours] = _number(value.get(theirs), theirs)
    inner = value.get("pers:interior_orientation")
    hfov = _number(inner.get("field_of_view"), "field_of_view") if isinstance(inner, dict) else math.nan
    if hfov == 360:
        _sphere(entry)
    elif not math.isnan(hfov):
        entry.projection, numbers["hfov"] = PERSPECTIVE if hfov < 180 else EQUIRECTANGULAR, hfov


def _sphere(entry: Entry) -> None:
    entry.projection = EQUIRECTANGULAR
    entry.numbers["hfov"] = 360.0


def files_beside(path: Path, entries: list[Entry]) -> list[Path]:
    """The pictures of an export, by id or name, in its folder or below; one that is not there as it should be named."""
    pictures = list_images(path.absolute().parent)
    of_name = {picture.name: picture for picture in reversed(pictures)}
    of_stem = {picture.stem: picture for picture in reversed(pictures)}
    missing = path.parent

    def find(entry: Entry) -> Path:
        name = Path(entry.file).name
        return of_stem.get(entry.id) or of_name.get(name) or missing / (name or f"{entry.id}.jpg")

    return [find(entry) for entry in entries]
