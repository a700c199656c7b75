"""The package as it is built and imported."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cvgeo

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_version_is_the_packages():
    assert PROJECT["project"]["version"] == cvgeo.__version__


def test_importing_it_imports_nothing_and_says_nothing():
    code = "import sys; before = set(sys.modules); import cvgeo; print(sorted(set(sys.modules) - before))"
    result = python(code)
    assert result.stdout == "['cvgeo']\n"
    assert result.stderr == ""


def test_license_is_complete():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert "The cvgeo authors" in text


def test_presets_and_marker_are_shipped():
    assert "config/presets/*/*.toml" in PROJECT["tool"]["setuptools"]["package-data"]["cvgeo"]
    assert (ROOT / "cvgeo" / "py.typed").exists()


def test_data_files_exist():
    for patterns in PROJECT["tool"]["setuptools"]["data-files"].values():
        assert all(list(ROOT.glob(pattern)) for pattern in patterns)


def test_lock_names_every_dependency():
    lines = (ROOT / ".ci" / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {line.split("==")[0].lower() for line in lines if "==" in line}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(name for extra in extras.values() for name in extra)]
    names = {re.split(r"[>=<\[]", name)[0].lower() for name in wanted} - {"cvgeo"}
    assert names <= locked


# The Python API of DESIGN.md: it stays as it is.
API = {
    "cvgeo.geometry:polar_transform": "(image, height=112, width=616, convention='paper', column0_heading=None)",
    "cvgeo.models:create_model": "(name, weights='none', **changes)",
    "cvgeo.models:list_models": "()",
    "cvgeo.losses:WeightedSoftMarginTripletLoss.forward": "(self, ground, aerial)",
}


@pytest.mark.parametrize("name", API)
def test_stable_signatures(name):
    module, _, path = name.partition(":")
    found = __import__(module, fromlist=["*"])
    for part in path.split("."):
        found = getattr(found, part)
    signature = inspect.signature(found)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    assert str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)) == API[name]
    assert found.__doc__ or path.endswith(".forward")


def test_stable_classes():
    from cvgeo.losses import WeightedSoftMarginTripletLoss
    from cvgeo.models.aggregators.mixvpr import MixVPR
    from cvgeo.retrieval import EmbeddingStore

    assert inspect.signature(WeightedSoftMarginTripletLoss).parameters["gamma"].default == 10.0
    names = ["in_channels", "in_h", "in_w", "out_channels", "mix_depth", "mlp_ratio", "out_rows"]
    assert list(inspect.signature(MixVPR).parameters)[:7] == names
    assert EmbeddingStore.__doc__
