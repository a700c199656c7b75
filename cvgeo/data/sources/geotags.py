"""What a picture says about where and how it was taken: EXIF GPS, and GPano in XMP.

Headings: GPano's PoseHeadingDegrees is the heading of the middle of the full sphere, EXIF's GPSImgDirection that of the
picture's middle. Stitchers that know no heading write a pose of 0.0, so a pose of exactly 0 yields to GPSImgDirection.
Of a cylindrical panorama GPano counts rows from the horizon down.
A magnetic direction (GPSImgDirectionRef M) needs the local declination to become one from true north: without it the
heading is unknown. Untrusted XML is read without document types, so that no entity is ever expanded.
"""

from __future__ import annotations

import math
import os
import re
import struct
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cvgeo.data.images import open_picture
from cvgeo.errors import InputError, explain_os_error
from cvgeo.geometry.projections import CUBE, CYLINDRICAL, EQUIRECTANGULAR, PERSPECTIVE, Camera

GPS_IFD, EXIF_IFD, XMP_TAG, ORIENTATION = 0x8825, 0x8769, 700, 274
LATITUDE_REF, LATITUDE, LONGITUDE_REF, LONGITUDE, DIRECTION_REF, DIRECTION = 1, 2, 3, 4, 16, 17
FOCAL_LENGTH_35MM = 41989
LEAST_FIELD = 1.0  # degrees, as --hfov takes them: no camera of streets sees less
DIAGONAL_35MM = math.hypot(36, 24)
GPANO, EXIF_XMP = "http://ns.google.com/photos/1.0/panorama/", "http://ns.adobe.com/exif/1.0/"
LARGEST_XMP = 4 << 20
# What Pillow lets through from damaged EXIF.
BROKEN = (ValueError, TypeError, KeyError, IndexError, SyntaxError, EOFError, struct.error, ZeroDivisionError, OSError)


@dataclass
class Geotag:
    """Place and pose of a picture; NaN is `unknown`. Angles in degrees, headings clockwise from true north.

    `column0_heading` belongs to the left edge of column 0, `vfov_top` and `vfov_bottom` are elevations of the upper and
    lower edge. `pitch` and `roll` tilt a panorama as GPano defines them. `projection` is empty where nothing tells.
    `notes` say what was assumed.
    """

    lat: float = math.nan
    lon: float = math.nan
    column0_heading: float = math.nan
    hfov: float = math.nan
    vfov_top: float = math.nan
    vfov_bottom: float = math.nan
    pitch: float = 0.0
    roll: float = 0.0
    projection: str = ""
    height: int = 0
    width: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def located(self) -> bool:
        """Whether a position is known."""
        return not (math.isnan(self.lat) or math.isnan(self.lon))

    @property
    def full_sphere(self) -> bool:
        """Whether the picture is equirectangular and shows every direction."""
        everywhere = self.hfov >= 360 and self.vfov_top >= 90 and self.vfov_bottom <= -90
        return everywhere and self.projection in ("", EQUIRECTANGULAR)

    @property
    def heading(self) -> float:
        """Heading of the picture's centre, NaN where it is unknown; an unknown field of view goes all around."""
        return (self.column0_heading + (360.0 if math.isnan(self.hfov) else self.hfov) / 2) % 360

    def look(self, heading: float) -> None:
        """Let the picture's centre look along a heading."""
        self.column0_heading = (heading - (360.0 if math.isnan(self.hfov) else self.hfov) / 2) % 360

    def widen(self, hfov: float) -> None:
        """Give another horizontal field of view; the centre stays, and what is no longer true of the rest goes."""
        if hfov == self.hfov:
            return
        heading = self.heading
        self.hfov, self.vfov_top, self.vfov_bottom = hfov, math.nan, math.nan
        if not math.isnan(heading):
            self.look(heading)

    def project(self, projection: str) -> None:
        """Give another projection; a vertical field that belongs to the former goes, and a cube map shows all."""
        if projection != (self.projection or EQUIRECTANGULAR):
            self.vfov_top, self.vfov_bottom = math.nan, math.nan
        self.projection = projection
        if projection == CUBE:
            self.widen(360.0)

    def camera(self) -> Camera:
        """How the picture was taken."""
        fields = self.hfov, self.vfov_top, self.vfov_bottom
        return Camera(self.projection or EQUIRECTANGULAR, *fields, self.pitch, self.roll)


@dataclass(frozen=True)
class StatedPose:
    """What is told of all pictures of a call, whatever their metadata says; empty or NaN leaves what they say.

    `heading` is that of the centre; `heading_unknown` passes over what the metadata says of it. `declination` is for
    magnetic headings, see read_geotag.
    """

    projection: str = ""
    heading: float = math.nan
    hfov: float = math.nan
    pitch: float = math.nan
    roll: float = math.nan
    heading_unknown: bool = False
    declination: float = math.nan

    def said(self) -> dict[str, Any]:
        """What is not left to the metadata."""
        nothing = asdict(StatedPose())
        return {name: value for name, value in asdict(self).items() if value == value and value != nothing[name]}

    def apply(self, tag: Geotag) -> None:
        """Write it over what a picture says."""
        if self.projection:
            tag.project(self.projection)
        if not math.isnan(self.hfov):
            tag.widen(self.hfov)
        if not math.isnan(self.heading):
            tag.look(self.heading)
        if self.heading_unknown:
            tag.column0_heading = math.nan
        tag.pitch = tag.pitch if math.isnan(self.pitch) else self.pitch
        tag.roll = tag.roll if math.isnan(self.roll) else self.roll


def read_geotag(path: str | os.PathLike[str], *, declination: float = math.nan, position: bool = True) -> Geotag:
    """Place and pose of a picture from its EXIF and XMP; what is not stated is NaN.

    Args:
        path: a JPEG, PNG, TIFF or WebP file.
        declination: degrees that magnetic north lies east of true north; turns magnetic directions into true ones.
        position: False leaves the position alone (it is known from elsewhere), and with it the faults it may have.

    Raises:
        InputError: not an image, damaged EXIF, or a position, field of view or pose that cannot be.
    """
    path = Path(path)
    gps, lens, xmp, (height, width) = _read_header(path)
    tag = Geotag(height=height, width=width)
    try:
        texts = _xmp_values(xmp)
        if position:
            tag.lat, tag.lon = _position(gps, texts)
        _field_of_view(tag, texts, lens)
        _heading(tag, texts, gps, declination)
    except ValueError as error:
        raise InputError(str(error), path=path) from error
    return tag


def _read_header(path: Path) -> tuple[Mapping, Mapping, bytes, tuple[int, int]]:
    with warnings.catch_warnings():
        # Pillow warns of every oddity in EXIF; what matters comes back as an error.
        warnings.simplefilter("ignore")
        try:
            with open(path, "rb") as handle:
                return _header_of(open_picture(handle, path), path)
        except OSError as error:
            raise explain_os_error(error, path, "read") from error


def _header_of(picture: Any, path: Path) -> tuple[Mapping, Mapping, bytes, tuple[int, int]]:
    try:
        exif = picture.getexif()
        gps, lens = dict(exif.get_ifd(GPS_IFD)), dict(exif.get_ifd(EXIF_IFD))
    except BROKEN as error:
        mend = "rewrite it: exiftool -all= -tagsfromfile @ -all:all"
        raise InputError(f"its EXIF is damaged: {error}", path=path, mend=mend) from error
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or exif.get(XMP_TAG) or b""
    width, height = picture.size
    # Orientations 5 to 8 lie on their side: upright, width and height change places.
    size = (width, height) if exif.get(ORIENTATION) in (5, 6, 7, 8) else (height, width)
    return gps, lens, xmp.encode() if isinstance(xmp, str) else bytes(xmp), size


def _xmp_values(packet: bytes) -> dict[str, str]:
    """GPano's and EXIF's simple properties of an XMP packet by name (`GPano:PoseHeadingDegrees`)."""
    packet = packet.strip(b"\x00 \t\r\n")
    if not packet:
        return {}
    if len(packet) > LARGEST_XMP or b"<!DOCTYPE" in packet or b"<!ENTITY" in packet or b"\x00" in packet:
        raise ValueError("its XMP is not plain metadata (a document type, or far too long): not read")
    try:
        root = ElementTree.fromstring(packet)
    except ElementTree.ParseError as error:
        if b"GPano" in packet:
            raise ValueError(f"its GPano metadata is not well-formed XML ({error})") from error
        return {}
    values = {}
    for element in root.iter():
        for name, text in [(element.tag, element.text), *element.items()]:
            for namespace, prefix in ((GPANO, "GPano"), (EXIF_XMP, "exif")):
                if str(name).startswith(f"{{{namespace}}}") and text and text.strip():
                    values[f"{prefix}:{name[len(namespace) + 2 :]}"] = text.strip()
    return values


def _number(value: Any, what: str) -> float:
    try:
        return float(value)
    except ZeroDivisionError:
        return math.nan
    except (TypeError, ValueError) as error:
        raise ValueError(f"its {what} {value!r} is not a number") from error


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")
    return text.strip("\x00 ").upper()


def _degrees(parts: Any, reference: Any, names: str, what: str) -> float:
    if not isinstance(parts, tuple | list) or not 1 <= len(parts) <= 3:
        raise ValueError(f"its EXIF is damaged: {what} {parts!r} is not degrees, minutes, seconds")
    sign = _text(reference)
    if sign not in tuple(names):
        raise ValueError(f"its {what} names no hemisphere ({' or '.join(names)})")
    value = sum(_number(part, what) / 60**power for power, part in enumerate(parts))
    return -value if sign == names[1] else value


def _position(gps: Mapping, texts: dict[str, str]) -> tuple[float, float]:
    """Latitude and longitude in degrees; NaN where neither EXIF nor XMP states them."""
    if LATITUDE in gps or LONGITUDE in gps:
        if LATITUDE not in gps or LONGITUDE not in gps:
            raise ValueError("its EXIF holds one of latitude and longitude only")
        lat = _degrees(gps[LATITUDE], gps.get(LATITUDE_REF), "NS", "latitude")
        lon = _degrees(gps[LONGITUDE], gps.get(LONGITUDE_REF), "EW", "longitude")
    elif "exif:GPSLatitude" in texts and "exif:GPSLongitude" in texts:
        lat = _xmp_degrees(texts["exif:GPSLatitude"], "NS", "latitude")
        lon = _xmp_degrees(texts["exif:GPSLongitude"], "EW", "longitude")
    else:
        return math.nan, math.nan
    check_position(lat, lon)
    return lat, lon


def check_position(lat: float, lon: float) -> None:
    """Raise ValueError for a position that cannot be: not finite, out of range, or 0, 0 (no fix)."""
    if not (math.isfinite(lat) and math.isfinite(lon)):
        raise ValueError("its position is not a number (the receiver had no fix?)")
    for name, value, limit in (("latitude", lat, 90), ("longitude", lon, 180)):
        if abs(value) > limit:
            raise ValueError(f"its {name} {value:g} is out of range (-{limit} to {limit})")
    if lat == 0 and lon == 0:
        raise ValueError("its position is 0, 0 (the receiver had no fix)")


def _xmp_degrees(text: str, names: str, what: str) -> float:
    # XMP: "48,4.861N" or "48,4,51N".
    match = re.fullmatch(rf"(\d+),(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?([{names}])", text.strip().upper())
    if match is None:
        raise ValueError(f"its XMP {what} {text!r} is not degrees and minutes")
    degrees, minutes, seconds, sign = match.groups()
    value = int(degrees) + float(minutes) / 60 + float(seconds or 0) / 3600
    return -value if sign == names[1] else value


def _gpano(texts: dict[str, str], name: str, default: float = math.nan) -> float:
    value = _number(texts.get(f"GPano:{name}", default), f"GPano {name}")
    if math.isinf(value):
        raise ValueError(f"its GPano {name} is infinite")
    return value


def _field_of_view(tag: Geotag, texts: dict[str, str], lens: Mapping) -> None:
    projection = texts.get("GPano:ProjectionType", "").lower()
    full_width, full_height = _gpano(texts, "FullPanoWidthPixels"), _gpano(texts, "FullPanoHeightPixels")
    if projection not in ("", EQUIRECTANGULAR, CYLINDRICAL):
        raise ValueError(f"its GPano projection {projection} is neither equirectangular nor cylindrical")
    tag.projection = projection
    if projection == CYLINDRICAL:
        _cylindrical_field_of_view(tag, texts, full_width)
    elif not math.isnan(full_width) and not math.isnan(full_height):
        _cropped_field_of_view(tag, texts, full_width, full_height)
    elif abs(tag.width / tag.height - 2) < 0.01:
        tag.hfov, tag.vfov_top, tag.vfov_bottom = 360.0, 90.0, -90.0
        if not projection:
            tag.notes.append("twice as wide as high: taken for a full sphere")
    elif not projection:
        _lens_field_of_view(tag, lens)
    tag.pitch, tag.roll = _gpano(texts, "PosePitchDegrees", 0.0), _gpano(texts, "PoseRollDegrees", 0.0)


def _cropped_field_of_view(tag: Geotag, texts: dict[str, str], full_width: float, full_height: float) -> None:
    left, top = _gpano(texts, "CroppedAreaLeftPixels", 0.0), _gpano(texts, "CroppedAreaTopPixels", 0.0)
    width = _gpano(texts, "CroppedAreaImageWidthPixels", full_width)
    height = _gpano(texts, "CroppedAreaImageHeightPixels", full_height)
    inside = 0 <= left < full_width and 0 <= top < full_height and width > 0 and height > 0
    if not inside or width > full_width or top + height > full_height + 0.5:
        raise ValueError(
            f"its GPano area {width:g}x{height:g} at {left:g}, {top:g} is not within {full_width:g}x{full_height:g}"
        )
    tag.hfov = 360 * width / full_width
    tag.vfov_top = 90 - 180 * top / full_height
    tag.vfov_bottom = max(90 - 180 * (top + height) / full_height, -90.0)


def _cylindrical_field_of_view(tag: Geotag, texts: dict[str, str], full_width: float) -> None:
    # By GPano's definition row 0 of the whole is the horizon; without a top the picture is centred on it.
    if math.isnan(full_width):
        return
    width = _gpano(texts, "CroppedAreaImageWidthPixels", full_width)
    height = _gpano(texts, "CroppedAreaImageHeightPixels", tag.height * width / tag.width)
    top = _gpano(texts, "CroppedAreaTopPixels", -height / 2)
    if not 0 < width <= full_width or not height > 0:
        raise ValueError(f"its GPano area {width:g}x{height:g} is not within a width of {full_width:g}")
    tag.hfov, radius = 360 * width / full_width, full_width / math.tau
    tag.vfov_top = math.degrees(math.atan(-top / radius))
    tag.vfov_bottom = math.degrees(math.atan(-(top + height) / radius))


def _lens_field_of_view(tag: Geotag, lens: Mapping) -> None:
    # By CIPA's definition the 35 mm equivalent keeps the diagonal's angle of view.
    focal = _number(lens.get(FOCAL_LENGTH_35MM) or math.nan, "focal length")
    if not focal > 0:
        return
    half = DIAGONAL_35MM / 2 / focal / math.hypot(tag.width, tag.height)
    hfov = 2 * math.degrees(math.atan(half * tag.width))
    if hfov < LEAST_FIELD:
        tag.notes.append(f"its focal length of {focal:g} mm is passed over: it leaves {hfov:.2g} degrees")
        return
    tag.hfov = hfov
    tag.vfov_top = math.degrees(math.atan(half * tag.height))
    tag.vfov_bottom = -tag.vfov_top
    tag.projection = PERSPECTIVE
    tag.notes.append(f"a photo of {tag.hfov:.0f} degrees, not a panorama")


def _heading(tag: Geotag, texts: dict[str, str], gps: Mapping, declination: float) -> None:
    pose, direction = _gpano(texts, "PoseHeadingDegrees"), _direction(tag, gps, declination)
    if math.isnan(pose) or (pose == 0 and not math.isnan(direction)):
        tag.look(direction)
        return
    left = _gpano(texts, "CroppedAreaLeftPixels", 0.0) / _gpano(texts, "FullPanoWidthPixels", 1.0)
    tag.column0_heading = (pose - 180 + 360 * (0.0 if math.isnan(left) else left)) % 360
    centre = tag.column0_heading + tag.hfov / 2
    if abs((centre - direction + 180) % 360 - 180) > 1:
        tag.notes.append(
            f"GPano and GPSImgDirection disagree on the heading ({centre % 360:.1f} and {direction:.1f}): GPano's taken"
        )


def _direction(tag: Geotag, gps: Mapping, declination: float) -> float:
    """Heading of the picture's middle by EXIF, from true north; NaN where it is not stated or only magnetic."""
    if DIRECTION not in gps:
        return math.nan
    direction = _number(gps[DIRECTION], "GPSImgDirection")
    if _text(gps.get(DIRECTION_REF)) != "M":
        return direction % 360
    if math.isnan(declination):
        tag.notes.append("the direction is from magnetic north and no declination is given: heading unknown")
    return (direction + declination) % 360
