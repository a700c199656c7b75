"""The world's files: panoramas with their place and pose in EXIF and GPano, and the orthophoto."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvgeo import __version__
from cvgeo.paths import atomic_file, utf8_path

if TYPE_CHECKING:
    from PIL import Image
    from rasterio.io import DatasetWriter

    from cvgeo.data.world.world import Truth, World

_XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:GPano="http://ns.google.com/photos/1.0/panorama/" {attributes}/>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def panorama_bytes(image: np.ndarray, truth: Truth, index: int, quality: int) -> bytes:
    """The JPEG file of panorama `index` (H, W, 3) with EXIF GPS and GPano pose."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(
        buffer,
        "JPEG",
        quality=quality,
        subsampling="4:2:0",
        exif=_exif(truth, index).tobytes(),
        xmp=_gpano(image.shape[0], image.shape[1], truth, index).encode(),
    )
    return buffer.getvalue()


def _centre_heading(truth: Truth, index: int) -> float:
    return float(truth.column0_heading[index] + truth.hfov[index] / 2) % 360


def _exif(truth: Truth, index: int) -> Image.Exif:
    from PIL import Image

    exif = Image.Exif()
    exif[0x010E] = "Rendered: a place that does not exist"  # ImageDescription
    exif[0x0131] = f"cvgeo {__version__}"  # Software
    lat, lon = float(truth.lat[index]), float(truth.lon[index])
    altitude = float(truth.altitude_m[index])
    exif[0x8825] = {
        0: b"\x02\x03\x00\x00",
        1: "N" if lat >= 0 else "S",
        2: _degrees(lat),
        3: "E" if lon >= 0 else "W",
        4: _degrees(lon),
        5: b"\x01" if altitude < 0 else b"\x00",
        6: Fraction(round(abs(altitude) * 100), 100),
        16: "T",
        17: Fraction(round(_centre_heading(truth, index) * 10000) % 3600000, 10000),
    }
    return exif


def _degrees(angle: float) -> tuple[Fraction, Fraction, Fraction]:
    """Degrees, minutes and seconds; a hundred-thousandth of a second is 0.3 mm."""
    whole, rest = divmod(round(abs(angle) * 3600 * 100000), 3600 * 100000)
    minutes, seconds = divmod(rest, 60 * 100000)
    return Fraction(whole), Fraction(minutes), Fraction(seconds, 100000)


def _gpano(height: int, width: int, truth: Truth, index: int) -> str:
    full_width = round(width * 360 / float(truth.hfov[index]))
    top, bottom = float(truth.vfov_top[index]), float(truth.vfov_bottom[index])
    full_height = round(height * 180 / (top - bottom))
    values = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "PoseHeadingDegrees": f"{_centre_heading(truth, index):.4f}",
        "PosePitchDegrees": "0.0",
        "PoseRollDegrees": "0.0",
        "FullPanoWidthPixels": full_width,
        "FullPanoHeightPixels": full_height,
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "CroppedAreaLeftPixels": (full_width - width) // 2,
        "CroppedAreaTopPixels": round((90 - top) / 180 * full_height),
    }
    return _XMP.format(attributes=" ".join(f'GPano:{name}="{value}"' for name, value in values.items()))


@contextmanager
def ortho_writer(path: Path, world: World) -> Iterator[DatasetWriter]:
    """Open `ortho.tif` for writing by windows: tiled, JPEG within, with overviews at the end, whole or not at all."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin

    from cvgeo.data.world.world import CRS

    profile = {
        "driver": "GTiff",
        "width": world.pixels,
        "height": world.pixels,
        "count": 3,
        "dtype": "uint8",
        "crs": CRS,
        "transform": from_origin(*world.origin, world.knobs.gsd_m, world.knobs.gsd_m),
        "tiled": True,
        "blockxsize": 256,
        "blockysize": 256,
        "compress": "JPEG",
        "photometric": "YCBCR",
        "jpeg_quality": 90,
        "bigtiff": "IF_SAFER",
    }
    with atomic_file(path) as temporary, rasterio.Env(GDAL_NUM_THREADS="1", GDAL_CACHEMAX=64):
        with rasterio.open(utf8_path(temporary), "w", **profile) as target:
            yield target
        factors = [factor for factor in (2, 4, 8, 16, 32) if world.pixels // factor >= 128]
        if factors:
            with rasterio.open(utf8_path(temporary), "r+") as target:
                target.build_overviews(factors, Resampling.average)


def write_panorama(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a panorama's file, whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
