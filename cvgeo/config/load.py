"""Presets and how they combine: defaults, then the model preset, then the recipe, then the user's changes."""

from __future__ import annotations

import json
import tomllib
from difflib import get_close_matches
from importlib import resources
from typing import Any

from cvgeo.config.schema import Config, ModelConfig, update
from cvgeo.errors import UsageError

# What a preset says of itself: in one line; where it comes from; how faithful it is; what is read how or left open;
# results as published, a table a data set; the recipe that trains it as its authors did.
DESCRIPTION = ("summary", "source", "tier", "open", "published", "recipe")
# parity: agrees with the authors' implementation, by test; paper: built from the article's equations; approximation:
# the source leaves too much open; own: of this program, no publication's.
TIERS = ("parity", "paper", "approximation", "own")
DEFAULT_RECIPE = "paper"


def preset_names(kind: str) -> list[str]:
    """Names of the presets of a kind (`models` or `recipes`), sorted."""
    folder = resources.files("cvgeo.config") / "presets" / kind
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_preset(kind: str, name: str) -> dict[str, Any]:
    """A preset's keys. Raises UsageError for an unknown name, with the nearest known one."""
    names = preset_names(kind)
    if name not in names:
        near = get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(names)
        raise UsageError(f"unknown {kind.removesuffix('s')} {name!r}", mend=hint)
    text = (resources.files("cvgeo.config") / "presets" / kind / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def preset_description(kind: str, name: str) -> dict[str, Any]:
    """What a preset says of itself (the keys of `DESCRIPTION`) that is no setting."""
    return {key: value for key, value in load_preset(kind, name).items() if key in DESCRIPTION}


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """`["train.epochs=3", "model.share=true"]` as nested dictionaries; values are read as JSON where they can be."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {assignment!r} is not KEY=VALUE", mend="for example --set train.epochs=3")
        try:
            parsed = json.loads(value)
        except json.JSONDecodeError:
            parsed = value
        *parents, last = key.split(".")
        node = changes
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise UsageError(f"--set {key}: {parent} is a value, not a table")
        node[last] = parsed
    return changes


def _settings(preset: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in preset.items() if key not in DESCRIPTION}


def load_model_config(name: str, changes: dict[str, Any] | None = None) -> ModelConfig:
    """The configuration of a model preset, with changes over it."""
    config = update(ModelConfig(), _settings(load_preset("models", name)))
    config.name = name
    return update(config, changes or {})


def preset_recipe(model: str | None) -> str:
    """The recipe that trains a model preset as its authors did; `paper` where it names none, and for no model."""
    named = load_preset("models", model).get("recipe") if model is not None else None
    return named or DEFAULT_RECIPE


def model_tier(config: ModelConfig) -> str:
    """The tier of fidelity of the preset that a model comes from; `paper, changed` where it is not as in the preset."""
    if config.name not in preset_names("models"):
        return "own"
    tier = load_preset("models", config.name)["tier"]
    return tier if config == load_model_config(config.name) else f"{tier}, changed"


def resolve(model: str | None = None, recipe: str | None = None, changes: dict[str, Any] | None = None) -> Config:
    """Defaults, model preset, recipe, changes: each over the ones before.

    Without `recipe` it is the one that the model preset names. A recipe may name the model it is meant for
    (`[model] name = ...`) and change keys of it; `model` given by the user replaces that name.
    """
    recipe = recipe or preset_recipe(model)
    recipe_keys = _settings(load_preset("recipes", recipe))
    recipe_model = dict(recipe_keys.get("model", {}))
    name = model or recipe_model.pop("name", None) or "mc_gra"
    recipe_model.pop("name", None)
    config = Config(model=load_model_config(name))
    update(config, {**recipe_keys, "model": recipe_model})
    config.train.recipe = recipe
    return update(config, changes or {})
