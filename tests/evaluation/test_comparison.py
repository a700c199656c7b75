"""Tables of a grid: tiers, recipes, and when published values stand beside the measured ones."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from cvgeo.config.grids import load_table
from cvgeo.evaluation.comparison import Results

WHOLE = "same-area, original labels, Chicago, NewYork, SanFrancisco, Seattle"


def results(table: str, dataset: str, protocol: str | None = None, comparable: bool = True) -> Results:
    grid = load_table(table)
    ranks = {variant.label: {0: np.arange(1, 41)} for variant in grid.variants}
    about = {
        variant.label: {"model": str(variant.model), "tier": f"tier {number}", "recipe": "paper"}
        for number, variant in enumerate(grid.variants)
    }
    return Results(grid, dataset, about, 40, ranks, protocol, comparable)


@pytest.mark.parametrize(
    ("table", "dataset", "protocol", "comparable", "published"),
    [
        ("1", "cvusa", None, True, True),
        ("1", "cvusa", None, False, False),
        ("1", "world", None, True, False),
        ("2", "vigor", WHOLE, True, True),
        ("2", "vigor", WHOLE.replace("same-area", "cross-area"), True, False),
        ("2", "vigor", "same-area, original labels, Chicago", True, False),
        ("2", "vigor", None, True, False),
        ("4", "vigor", WHOLE, True, True),
        ("4", "vigor", WHOLE.replace("same-area", "cross-area"), True, False),
        ("4", "cvusa", None, True, True),
    ],
)
def test_published_values_need_data_set_and_protocol(table, dataset, protocol, comparable, published) -> None:
    found = results(table, dataset, protocol, comparable)
    assert any(key.startswith("paper") for record in found.records() for key in record) == published
    texts = found.texts()
    assert any("| paper" in line or "paper r@" in line for line in texts["table.md"].splitlines()[:3]) == published
    assert ("the published value" in texts["table.md"]) == published


def test_tiers_stand_in_every_form_of_the_table() -> None:
    found = results("5", "world")
    texts = found.texts()
    for name in ("table.md", "table.tex"):
        assert "tier 0" in texts[name] and "tier 1" in texts[name]
    assert [row["tier"] for row in csv.DictReader(texts["table.csv"].splitlines())] == ["tier 0", "tier 1"]
    assert [record["tier"] for record in json.loads(texts["table.json"])] == ["tier 0", "tier 1"]
    assert "recipe paper" in texts["table.md"]


def test_several_recipes_are_told_by_variant() -> None:
    found = results("5", "world")
    found.about["ordinary"]["recipe"] = "safa"
    assert "recipes safa (ordinary), paper (deformable)" in found.texts()["table.md"]
