"""What is said where OpenCV cannot load."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from cvgeo.errors import CvgeoError
from cvgeo.geometry.opencv import explain_import_error, import_cv2


def missing(library: str) -> ImportError:
    return ImportError(f"{library}: cannot open shared object file: No such file or directory")


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libGL.so.1", "libgl1"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libxcb.so.1", "libxcb1"),
        ("libSM.so.6", "libsm6"),
        ("libstdc++.so.6", "libstdc++6"),
    ],
)
def test_the_debian_package_is_named(library, package):
    text = str(explain_import_error(missing(library)))
    assert library in text
    assert f"`apt install {package}`" in text
    assert "opencv-python-headless" in text
    assert "\n" not in text


def test_an_unknown_library_is_named_and_the_headless_wheel_offered():
    text = str(explain_import_error(missing("libsomething-3.so.9")))
    assert "libsomething-3.so.9" in text
    assert "opencv-python-headless" in text


def test_no_opencv_at_all():
    error = ModuleNotFoundError("No module named 'cv2'", name="cv2")
    assert "pip install opencv-python" in str(explain_import_error(error))


def test_other_faults_are_told_too():
    assert "version GLIBC_2.99 not found" in str(explain_import_error(ImportError("version GLIBC_2.99 not found")))


def test_import_cv2_gives_the_module():
    assert import_cv2().__name__ == "cv2"


def test_the_program_says_it_in_one_line(tmp_path):
    # A cv2 that fails as the real one does without libGL, found before it.
    (tmp_path / "cv2.py").write_text(
        'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")\n'
    )
    script = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        sys.argv = ["cvgeo", "polar", {__file__!r}]
        from cvgeo.cli.app import run
        run()
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt install libgl1" in done.stderr


def test_the_error_is_an_expected_one():
    assert issubclass(type(explain_import_error(missing("libGL.so.1"))), CvgeoError)
