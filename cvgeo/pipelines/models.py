"""`cvgeo models`: presets, parts, and what one of them is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from difflib import get_close_matches
from fnmatch import fnmatch
from typing import Any

from cvgeo.config.load import preset_names
from cvgeo.errors import UsageError
from cvgeo.models import ModelSummary, describe_model, describe_parts
from cvgeo.models.registry import KINDS
from cvgeo.report import Reporter

GLOB = frozenset("*?[")
COMPARED_ON = "CVUSA"


def is_pattern(text: str) -> bool:
    """Whether a text stands for any number of names."""
    return bool(GLOB & set(text))


def list_presets(pattern: str, reporter: Reporter) -> Iterator[dict[str, Any]]:
    """A record for each model preset whose name matches. Raises UsageError where none does."""
    found = [name for name in preset_names("models") if fnmatch(name, pattern)]
    if not found:
        raise UsageError(f"no model matches {pattern!r}", mend="known: " + ", ".join(preset_names("models")))
    for name in reporter.track(found, "models", len(found)):
        yield preset_record(describe_model(name))


def preset_record(model: ModelSummary) -> dict[str, Any]:
    """A model as one record: sizes in pixels (height, width), multiply-adds of both views of a pair."""
    record = asdict(model)
    parts = ("name", "summary", "tier", "input", "backbone", "attention", "aggregator", "share")
    numbers = ("parameters", "descriptor_size", "multiply_adds", "azimuth_columns")
    shown = {key: record[key] for key in (*parts, *numbers)}
    shown |= {"ground_size": list(model.ground_size), "aerial_size": list(model.aerial_size), "polar": model.polar}
    results = [line["r@1"] for line in model.published if line["data"] == COMPARED_ON and "r@1" in line]
    shown["published_cvusa_r@1"] = results[0] if results else None
    return shown | {key: record[key] or None for key in ("recipe", "source", "open", "published")}


def describe_preset(name: str) -> dict[str, Any]:
    """The record of one preset. Raises UsageError for an unknown name, with the nearest."""
    return preset_record(describe_model(name))


def list_parts(pattern: str) -> Iterator[dict[str, Any]]:
    """A record for each registered part whose name, or kind, matches. Raises UsageError where none does."""
    known = []
    some = False
    for kind in KINDS:
        parts = describe_parts(kind)
        known += [part["name"] for part in parts]
        for part in parts:
            if fnmatch(part["name"], pattern) or fnmatch(kind, pattern):
                some = True
                yield part
    if not some:
        near = get_close_matches(pattern, [*KINDS, *known], n=1)
        hint = f"did you mean {near[0]}?" if near else "kinds: " + ", ".join(KINDS)
        raise UsageError(f"no part matches {pattern!r}", mend=hint)
