"""Parts of one's own, registered by packages that are installed."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cvgeo.errors import CvgeoWarning, UsageError
from cvgeo.models import build, create_model, names, registry

GOOD = """
import torch
from cvgeo.models import register

@register("aggregator", "corner")
class Corner(torch.nn.Module):
    \"\"\"The first node.\"\"\"

    def __init__(self, channels: int, height: int, width: int, scale: float = 1.0) -> None:
        super().__init__()
        self.descriptor_size = channels

    def forward(self, features, mask=None):
        return torch.nn.functional.normalize(features[:, :, 0, 0], dim=1)
"""
BROKEN = """
from cvgeo.models import register

@register("attention", "half_done")
class HalfDone: ...

raise RuntimeError("no licence\\nfound")
"""


def install(folder: Path, package: str, module: str, source: str) -> None:
    """A package as pip leaves it: its module, and its metadata with the entry point."""
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cvgeo.parts]\nall = {module}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of packages on the path, which the registry has not looked at; what they register goes again."""
    known = {kind: dict(parts) for kind, parts in registry._REGISTERED.items()}
    monkeypatch.syspath_prepend(str(tmp_path))
    registry._import_others.cache_clear()
    yield tmp_path
    registry._REGISTERED.update(known)
    registry._import_others.cache_clear()
    for module in ("own_parts", "broken_parts"):
        sys.modules.pop(module, None)


def test_an_installed_package_adds_its_parts(installed: Path) -> None:
    install(installed, "own-package", "own_parts", GOOD)
    assert "corner" in names("aggregator")
    size = {"ground_height": 32, "ground_width": 64, "aerial_height": 32, "aerial_width": 64}
    model = create_model("tiny", aggregator="corner", view=size).eval()
    assert model.embed("ground", torch.randn(2, 3, 32, 64)).descriptor.shape == (2, model.descriptor_size)


def test_a_broken_package_costs_one_warning_and_its_own_parts(installed: Path) -> None:
    install(installed, "broken-package", "broken_parts", BROKEN)
    install(installed, "own-package", "own_parts", GOOD)
    with pytest.warns(CvgeoWarning) as caught:
        known = names("attention")
    said = [str(one.message) for one in caught]
    assert said == ["the parts of the package broken-package cannot be used: RuntimeError: no licence found"]
    assert "half_done" not in known and "corner" in names("aggregator")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert build("aggregator", "corner", channels=3, height=2, width=2).descriptor_size == 3


def test_a_missing_module_is_told_of(installed: Path) -> None:
    install(installed, "gone-package", "own_parts", GOOD)
    (installed / "own_parts.py").unlink()
    with pytest.warns(CvgeoWarning, match="the package gone-package cannot be used: ModuleNotFoundError"):
        names("loss")


def test_unknown_parts_name_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown attention 'mcgra'; did you mean mc_gra"):
        build("attention", "mcgra", channels=8, height=2, width=2)
    with pytest.raises(UsageError, match="unknown input 'depth'; known: orientation, rgb"):
        build("input", "depth")
