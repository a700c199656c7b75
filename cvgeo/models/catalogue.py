"""What models there are, what they cost, and how they are made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

import torch

from cvgeo.config.load import load_model_config, preset_description, preset_names
from cvgeo.config.schema import ModelConfig, view_part
from cvgeo.models.cost import multiply_adds
from cvgeo.models.embedder import VIEWS, Embedder
from cvgeo.models.registry import builder_of, names
from cvgeo.models.weights import load_weights


def list_models() -> list[str]:
    """Names of the model presets, sorted."""
    return preset_names("models")


def create_model(name: str, weights: str = "none", **changes: Any) -> Embedder:
    """A model by preset name, with changes of its configuration's keys over it.

    `create_model("mc_gra", backbone="resnet18", view={"ground_width": 512})`. `weights` are the backbones': `none`,
    `imagenet`, `lite` or a file. Raises UsageError for unknown names and keys.
    """
    return build_embedder(load_model_config(name, changes), weights)


def build_embedder(config: ModelConfig, weights: str = "none") -> Embedder:
    """The model of a configuration. Where weights have batch norm folded in, the configuration gets
    `backbone_options.batch_norm = "eval"`, so that checkpoints keep it so.
    """
    model = Embedder(config)
    folded = [load_weights(branch.backbone, weights, branch.aggregator) for branch in model.branches.values()]
    if any(folded):
        # A view with a backbone of its own does not take the model's options.
        for part in (config, *(own for own in (config.ground, config.aerial) if own.backbone)):
            part.backbone_options = {**part.backbone_options, "batch_norm": "eval"}
    return model


@dataclass(frozen=True)
class ModelSummary:
    """What `describe_model` tells.

    Parts by name; learned parameters (frozen ones too), descriptor length, multiply-adds of both views of a pair; sizes
    in pixels (H, W); `tier` of fidelity (`cvgeo.config.load.TIERS`), `source`, `open` (what is read how, or left out),
    `recipe`; results as published, a table with `data` a data set.
    """

    name: str
    summary: str
    input: str
    backbone: str
    attention: str
    aggregator: str
    share: bool
    parameters: int
    descriptor_size: int
    multiply_adds: int
    azimuth_columns: int
    ground_size: tuple[int, int]
    aerial_size: tuple[int, int]
    polar: bool
    tier: str
    source: str
    open: str
    recipe: str
    published: list[dict[str, Any]]


def describe_model(name: str) -> ModelSummary:
    """A preset's parts, size and cost, without making its weights (everything on the meta device)."""
    config = load_model_config(name)
    with torch.device("meta"):
        model = Embedder(config)
    said = preset_description("models", name)
    ground_size, aerial_size = model.sizes
    return ModelSummary(
        name=name,
        input=config.input,
        **{part: _parts(config, part) for part in ("backbone", "attention", "aggregator")},
        share=config.share,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        descriptor_size=model.descriptor_size,
        multiply_adds=multiply_adds(model),
        azimuth_columns=model.azimuth_columns,
        ground_size=ground_size,
        aerial_size=aerial_size,
        polar=config.view.aerial == "polar",
        **{key: said.get(key, "") for key in ("summary", "tier", "source", "open", "recipe")},
        published=list(said.get("published", [])),
    )


def _parts(config: ModelConfig, kind: str) -> str:
    """A part's name; both where the views differ."""
    return " / ".join(dict.fromkeys(view_part(config, kind, view)[0] for view in VIEWS))


# What a model gives its parts; the rest of their arguments are options.
_GIVEN = {
    "input": {"height", "width", "view", "polar", "column0_heading"},
    "backbone": {"depth", "variant", "in_channels"},
    "attention": {"channels", "height", "width", "wrap"},
    "aggregator": {"channels", "height", "width", "in_channels", "in_h", "in_w"},
}


def describe_parts(kind: str, pattern: str = "*") -> list[dict[str, str]]:
    """Registered parts of a kind as kind, name, summary (the first lines of its docstring) and options."""
    return [{"kind": kind, "name": name, **_described(kind, builder_of(kind, name))} for name in names(kind, pattern)]


def _described(kind: str, builder: Callable[..., Any]) -> dict[str, str]:
    function = builder.func if isinstance(builder, partial) else builder
    text = (inspect.getdoc(function) or "").partition("\n\n")[0]
    given = list(inspect.signature(builder).parameters.values())
    if not inspect.isclass(function) and any(one.kind is one.VAR_KEYWORD for one in given):
        # A function that hands its options on to the class that it returns.
        given = list(inspect.signature(get_type_hints(function)["return"]).parameters.values())
    shown = [one for one in given if one.name not in _GIVEN.get(kind, ()) and one.kind is not one.VAR_KEYWORD]
    options = [one.name if one.default is one.empty else f"{one.name}={one.default}" for one in shown]
    return {"summary": " ".join(text.split()), "options": ", ".join(options)}
