"""Grids of variants: the paper's tables, tables of the user's own, and products over configuration keys."""

from __future__ import annotations

import itertools
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvgeo.config.load import load_preset, parse_settings, preset_names, resolve
from cvgeo.config.schema import Config
from cvgeo.errors import InputError, UsageError, explain_os_error

PRESETS = ("model", "recipe")  # keys of a grid that name a preset rather than a setting
_VARIANT_KEYS = ("label", "model", "recipe", "changes", "paper", "paper_difference")


@dataclass(frozen=True)
class Variant:
    """One row of a table: presets (None: the call's own) and changes over them.

    `paper` holds published values in percent by data set and metric, `paper_difference` those of this variant minus the
    grid's reference.
    """

    label: str
    model: str | None = None
    recipe: str | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    paper: dict[str, dict[str, float]] = field(default_factory=dict)
    paper_difference: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """Variants that are trained and evaluated alike; differences are taken to the variant labelled `reference`.

    `protocols` tells by data set what its published values were measured with: parts, set apart by commas, that the
    protocol of a measurement must have.
    """

    summary: str
    variants: tuple[Variant, ...]
    reference: str
    figure: str = ""
    protocols: dict[str, str] = field(default_factory=dict)


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Two trees of settings as one; where both set a key, `over` counts."""
    result = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def _grid(values: dict[str, Any], where: str) -> Grid:
    variants = []
    for number, one in enumerate(values.get("variants", ()), start=1):
        unknown = sorted(set(one) - set(_VARIANT_KEYS))
        if unknown or not one.get("label"):
            fault = f"variant {number} has the unknown key {unknown[0]}" if unknown else f"variant {number}: no label"
            raise InputError(fault, path=where, mend="known: " + ", ".join(_VARIANT_KEYS))
        changes = merged(values.get("changes", {}), one.get("changes", {}))
        variants.append(Variant(**{"recipe": values.get("recipe"), **one, "changes": changes}))
    labels = [variant.label for variant in variants]
    if len(set(labels)) < len(labels) or not labels:
        raise InputError("has no variants" if not labels else "has two variants of one label", path=where)
    reference = values.get("reference", labels[-1])
    if reference not in labels:
        raise InputError(f"reference {reference!r} is none of its variants", path=where, mend=", ".join(labels))
    figure, protocols = values.get("figure", ""), values.get("protocols", {})
    return Grid(values.get("summary", where), tuple(variants), reference, figure, protocols)


def load_table(name: str) -> Grid:
    """A table of the paper by its number, or a TOML file of the same form. Raises UsageError or InputError."""
    if name in preset_names("tables"):
        return _grid(load_preset("tables", name), f"table {name}")
    if not name.endswith(".toml"):
        raise UsageError(
            f"no table {name!r}", mend=f"the paper's are {', '.join(preset_names('tables'))}; or a .toml file"
        )
    try:
        return _grid(tomllib.loads(Path(name).read_text(encoding="utf-8")), name)
    except OSError as error:
        raise explain_os_error(error, name, "read") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError) as error:
        raise InputError(f"is not a well-formed table: {error}", path=name) from error


def _values(text: str) -> list[Any]:
    try:
        parsed = json.loads(f"[{text}]")
    except json.JSONDecodeError:
        parsed = text.split(",")
    return parsed


def product_grid(vary: Sequence[str], reference: str | None = None) -> Grid:
    """All combinations of `KEY=VALUE,VALUE...`; the keys `model` and `recipe` name presets.

    The first combination is the reference unless told. Raises UsageError for what is not of this form.
    """
    axes: list[list[tuple[str, Any]]] = []
    for one in vary:
        key, equals, text = one.partition("=")
        if not equals or not key or not text:
            raise UsageError(f"--vary {one!r} is not KEY=VALUE,VALUE", mend="for example --vary model=mc_gra,cbam")
        axes.append([(key, value) for value in _values(text)])
    variants = []
    for chosen in itertools.product(*axes):
        presets = {key: str(value) for key, value in chosen if key in PRESETS}
        settings = [f"{key}={json.dumps(value)}" for key, value in chosen if key not in PRESETS]
        told = [pair for pair, axis in zip(chosen, axes, strict=True) if len(axis) > 1] or chosen
        label = ", ".join(str(value) if key in PRESETS else f"{_short(key)}={value}" for key, value in told)
        variants.append(Variant(label, **presets, changes=parse_settings(settings)))
    labels = [variant.label for variant in variants]
    if len(set(labels)) < len(labels):
        raise UsageError("--vary gives one combination twice", mend="name each value once")
    if reference is not None and reference not in labels:
        raise UsageError(f"no variant {reference!r}", mend="they are: " + "; ".join(labels))
    return Grid(
        f"a grid over {', '.join(one.partition('=')[0] for one in vary)}", tuple(variants), reference or labels[0]
    )


def _short(key: str) -> str:
    return key.rpartition(".")[2]


def variant_config(
    variant: Variant, model: str | None, recipe: str | None, changes: dict[str, Any], seed: int
) -> Config:
    """A variant's configuration: presets, the call's changes, its own, the seed: each over the ones before.

    Where neither the variant nor the call names a recipe it is that of the variant's model preset. Raises UsageError
    for unknown names and keys.
    """
    everything = merged(merged(changes, variant.changes), {"train": {"seed": seed}})
    return resolve(variant.model or model, variant.recipe or recipe, everything)
