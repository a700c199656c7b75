from __future__ import annotations

import json

import pytest

from cvgeo.config.load import load_preset, parse_settings, preset_names, preset_recipe, resolve
from cvgeo.config.schema import Config, TrainConfig, from_dict, to_dict, update
from cvgeo.errors import UsageError
from cvgeo.models.registry import build


@pytest.mark.parametrize("recipe", preset_names("recipes"))
def test_every_recipe_resolves_and_survives_json(recipe: str) -> None:
    config = resolve(recipe=recipe)
    assert config.train.recipe == recipe
    assert load_preset("recipes", recipe)["summary"]
    assert to_dict(from_dict(Config, json.loads(json.dumps(to_dict(config))))) == to_dict(config)


def test_the_paper_recipe_is_the_defaults() -> None:
    assert to_dict(resolve(recipe="paper").train) == to_dict(TrainConfig()) | {
        "loss": {"name": "weighted_soft_margin_triplet", "options": {"gamma": 10.0, "distance": "squared"}}
    }


def test_the_model_that_is_asked_for_goes_before_the_recipes() -> None:
    assert resolve(recipe="demo").model.name == "tiny"
    assert resolve("mc_gra", "demo").model.name == "mc_gra"
    assert resolve("safa").train.recipe == "safa" and resolve("zero_shot").train.recipe == "paper"
    assert resolve().train.recipe == "paper" and resolve("safa", "strong").train.recipe == "strong"


@pytest.mark.parametrize("model", preset_names("models"))
def test_the_recipe_that_a_preset_names_is_there(model: str) -> None:
    assert preset_recipe(model) in preset_names("recipes")


def test_settings_are_read_as_json_where_they_can_be() -> None:
    changes = parse_settings(
        ["train.epochs=3", "train.loss.name=info_nce", 'train.milestones={"2": 0.1}', "model.share=true"]
    )
    assert changes == {
        "train": {"epochs": 3, "loss": {"name": "info_nce"}, "milestones": {"2": 0.1}},
        "model": {"share": True},
    }


@pytest.mark.parametrize(
    ("assignments", "said"),
    [
        (["train.epochs"], "is not KEY=VALUE"),
        (["=3"], "is not KEY=VALUE"),
        (["train=3", "train.epochs=3"], "train is a value, not a table"),
    ],
)
def test_assignments_that_are_none(assignments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_settings(assignments)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"epoch": 3}}, "unknown setting train.epoch; did you mean train.epochs"),
        ({"train": {"epochs": "many"}}, "train.epochs: 'many' is not a whole number"),
        ({"train": {"epochs": 2.5}}, "train.epochs: 2.5 is not a whole number"),
        ({"train": 3}, "train is a table, not 3; set keys of it, such as train.recipe"),
        ({"train": {"loss": {"options": 3}}}, "train.loss.options is a table, not 3"),
        ({"model": {"view": {"mean": [1, 2]}}}, r"model.view.mean: \[1, 2\] is not three numbers"),
    ],
)
def test_changes_that_do_not_fit(changes: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        update(Config(), changes)


def test_options_are_merged_but_belong_to_their_part() -> None:
    kept = resolve(recipe="paper", changes={"train": {"loss": {"options": {"gamma": 5}}}})
    assert kept.train.loss.options == {"gamma": 5, "distance": "squared"}
    same = resolve(recipe="paper", changes={"train": {"loss": {"name": "weighted_soft_margin_triplet"}}})
    assert same.train.loss.options["gamma"] == 10.0
    other = resolve(recipe="paper", changes={"train": {"loss": {"options": {"temperature": 1}, "name": "info_nce"}}})
    assert other.train.loss.options == {"temperature": 1}
    assert resolve("tiny", "demo", {"model": {"backbone": "resnet18"}}).model.backbone_options == {}


def test_a_key_deep_in_a_table_of_options_leaves_the_others() -> None:
    changes = {"train": {"loss": {"options": {"terms": {"iou_semi_positive": {"weight": 0.3}}}}}}
    terms = resolve(recipe="vigor", changes=changes).train.loss.options["terms"]
    assert terms["iou_semi_positive"] == {"weight": 0.3, "from_epoch": 30}
    assert terms["weighted_soft_margin_triplet"]["gamma"] == 10.0
    assert resolve(recipe="vigor").train.loss.options["terms"]["iou_semi_positive"]["weight"] == 0.1


@pytest.mark.parametrize("recipe", preset_names("recipes"))
def test_every_recipe_names_a_loss_that_is_there(recipe: str) -> None:
    chosen = resolve(recipe=recipe).train.loss
    loss = build("loss", chosen.name, **chosen.options)
    assert loss.needs_at(10**6) == ({"semi_aerial", "offset"} if recipe == "vigor" else frozenset())
