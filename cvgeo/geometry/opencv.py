"""OpenCV, imported in one place, so that a missing system library is explained in one line."""

from __future__ import annotations

import os
import re
from functools import lru_cache
from types import ModuleType

from cvgeo.errors import CvgeoError

# The system libraries that OpenCV wheels leave to the system, by the start of their names -> Debian package.
DEBIAN_PACKAGES = {
    "libGL.so": "libgl1",
    "libGLdispatch.so": "libglvnd0",
    "libGLX.so": "libglx0",
    "libEGL.so": "libegl1",
    "libOpenGL.so": "libopengl0",
    "libgthread-2.0.so": "libglib2.0-0",
    "libglib-2.0.so": "libglib2.0-0",
    "libxcb.so": "libxcb1",
    "libX11.so": "libx11-6",
    "libXau.so": "libxau6",
    "libXdmcp.so": "libxdmcp6",
    "libXext.so": "libxext6",
    "libXrender.so": "libxrender1",
    "libSM.so": "libsm6",
    "libICE.so": "libice6",
    "libfontconfig.so": "libfontconfig1",
    "libfreetype.so": "libfreetype6",
    "libdbus-1.so": "libdbus-1-3",
    "libxkbcommon.so": "libxkbcommon0",
    "libz.so": "zlib1g",
    "libgomp.so": "libgomp1",
    "libstdc++.so": "libstdc++6",
}
_HEADLESS = "`pip uninstall opencv-python` and `pip install opencv-python-headless`, which needs no such library"


def explain_import_error(error: ImportError) -> CvgeoError:
    """The one-line error for an OpenCV that cannot be loaded: which Debian package to install, or what else serves."""
    if isinstance(error, ModuleNotFoundError) and error.name == "cv2":
        return CvgeoError("OpenCV is not installed", mend="`pip install opencv-python` (or opencv-python-headless)")
    found = re.search(r"(lib[\w.+-]+?\.so)[.\d]*", str(error))
    if found is None:
        return CvgeoError(f"OpenCV cannot be loaded: {error}", mend=_HEADLESS)
    library, package = found.group(0).rstrip("."), DEBIAN_PACKAGES.get(found.group(1))
    install = f"`apt install {package}`" if package else f"install the package that brings {library}"
    return CvgeoError(
        f"OpenCV cannot be loaded: the system library {library} is missing", mend=f"{install}, or {_HEADLESS}"
    )


@lru_cache(maxsize=1)
def import_cv2() -> ModuleType:
    """The module `cv2`. Raises CvgeoError where OpenCV, or a system library that it needs, is missing."""
    try:
        import cv2
    except ImportError as error:
        raise explain_import_error(error) from error
    # Its remarks on damaged files would stand on stderr beside the one line that explains them.
    if "OPENCV_LOG_LEVEL" not in os.environ:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
