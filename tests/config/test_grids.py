"""Grids: the paper's tables, tables of the user's own, products of settings."""

from __future__ import annotations

import pytest

from cvgeo.config.grids import load_table, merged, product_grid, variant_config
from cvgeo.config.load import model_tier, preset_names
from cvgeo.errors import InputError, UsageError
from cvgeo.training.composition import check_composition


@pytest.mark.parametrize("number", ["1", "2", "3", "4", "5", "small"])
def test_the_papers_tables_resolve(number):
    grid = load_table(number)
    assert grid.reference in [variant.label for variant in grid.variants] and grid.figure
    for variant in grid.variants:
        assert variant_config(variant, None, "paper", {}, 3).train.seed == 3


@pytest.mark.parametrize("number", preset_names("tables"))
def test_every_variant_of_every_table_can_be_built(number):
    for variant in load_table(number).variants:
        check_composition(variant_config(variant, None, None, {}, 0))


def test_a_model_is_trained_by_its_own_recipe_unless_told():
    first = load_table("1").variants[5]
    assert first.model == "safa"
    assert variant_config(first, None, None, {}, 0).train.recipe == "safa"
    assert variant_config(first, None, "strong", {}, 0).train.recipe == "strong"
    assert variant_config(load_table("small").variants[0], None, None, {}, 0).train.recipe == "paper-small"


def test_tiers_tell_what_is_not_as_in_the_preset():
    tiers = [model_tier(variant_config(one, None, None, {}, 0).model) for one in load_table("5").variants]
    assert tiers == ["paper, changed", "paper"]
    assert model_tier(variant_config(load_table("small").variants[0], None, None, {}, 0).model) == (
        "approximation, changed"
    )


def test_table_5_differs_in_the_convolution_alone():
    ordinary, deformable = (variant_config(one, None, "paper", {}, 0) for one in load_table("5").variants)
    assert ordinary.model.attention_options == {"deformable": False}
    ordinary.model.attention_options = deformable.model.attention_options
    assert ordinary == deformable


def test_product_of_settings_and_presets():
    grid = product_grid(["model=maxpool,cbam", "train.batch_size=4,8", "train.optimizer=adamw"])
    assert [one.label for one in grid.variants] == [
        "maxpool, batch_size=4",
        "maxpool, batch_size=8",
        "cbam, batch_size=4",
        "cbam, batch_size=8",
    ]
    assert grid.reference == "maxpool, batch_size=4"
    config = variant_config(grid.variants[3], None, "paper", {"train": {"batch_size": 2, "epochs": 5}}, 1)
    assert (config.model.name, config.train.batch_size, config.train.epochs) == ("cbam", 8, 5)
    assert config.train.optimizer == "adamw"


def test_values_may_be_any_json():
    grid = product_grid(["model.attention_options.deformable=true,false", 'train.milestones={"30":1e-6},{}'])
    assert len(grid.variants) == 4
    assert grid.variants[0].changes["train"]["milestones"] == {"30": 1e-6}
    assert grid.variants[0].changes["model"]["attention_options"] == {"deformable": True}


@pytest.mark.parametrize("vary", [["model"], ["=3"], ["train.roll="], ["train.roll=1,1"]])
def test_bad_products(vary):
    with pytest.raises(UsageError):
        product_grid(vary)


def test_unknown_reference():
    with pytest.raises(UsageError, match="tiny"):
        product_grid(["model=tiny,cbam"], "tinny")


def test_own_table(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text('reference = "a"\n[[variants]]\nlabel = "a"\n[[variants]]\nlabel = "b"\nchanges.train.roll = 1\n')
    grid = load_table(str(path))
    assert grid.variants[1].changes == {"train": {"roll": 1}} and grid.reference == "a"
    path.write_text("recipe = 'demo'\nchanges.train = {roll = 0.5, flip = 1}\n" + path.read_text())
    shared = load_table(str(path)).variants
    assert [one.recipe for one in shared] == ["demo", "demo"]
    assert [one.changes["train"] for one in shared] == [{"roll": 0.5, "flip": 1}, {"roll": 1, "flip": 1}]
    for text, fault in [
        ("", "no variants"),
        ('[[variants]]\nlabel = "a"\n[[variants]]\nlabel = "a"\n', "two variants"),
        ('[[variants]]\nlabel = "a"\nmodels = "x"\n', "unknown key models"),
        ("[[variants]]\n", "no label"),
        ('reference = "c"\n[[variants]]\nlabel = "a"\n', "none of its variants"),
        ("x = [", "not a well-formed"),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=fault):
            load_table(str(path))
    with pytest.raises(UsageError, match="1, 2, 3, 4, 5, small"):
        load_table("6")


def test_merged_keeps_what_is_not_set_again():
    assert merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}, "d": {"e": 5}}) == {
        "a": {"b": 1, "c": 4},
        "d": {"e": 5},
    }
