"""Recall curves as pictures."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from cvgeo.errors import CvgeoError
from cvgeo.evaluation.plots import plot_recall

CURVES = {"a_b & <c>": np.array([[0.1, 0.5, 0.9], [0.2, 0.6, 0.8]]), "one seed": np.array([[0.3, 0.3, 0.4]])}


def test_the_same_curves_give_the_same_files(tmp_path):
    pytest.importorskip("matplotlib")
    from cvgeo.data.images import read_image

    for folder in ("one", "two"):
        plot_recall(CURVES, "Title", [tmp_path / folder / name for name in ("recall.png", "recall.svg")])
    for name in ("recall.png", "recall.svg"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    image = read_image(tmp_path / "one" / "recall.png")
    # Both lines' colours are there: Okabe and Ito's blue and vermilion.
    for colour in ((0, 114, 178), (213, 94, 0)):
        assert (np.abs(image.astype(int) - colour).max(axis=2) < 20).sum() > 100
    assert image.shape == (660, 960, 3)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(CvgeoError, match=r"cvgeo\[plots\]"):
        plot_recall(CURVES, "Title", [tmp_path / "recall.png"])
    assert not list(tmp_path.iterdir())
