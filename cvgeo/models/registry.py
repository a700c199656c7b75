"""Registries by exact name. A new mechanism is one file and one decorator.

The parts' modules are imported only when one of their kind is asked for, so that listing names costs nothing heavy.

A part of one's own comes from any installed package that names a module in the entry point group `cvgeo.parts`:

    [project.entry-points."cvgeo.parts"]
    anything = "my_package.parts"

The module is imported the first time that a part is asked for; its decorators do the rest.
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cvgeo.errors import CvgeoWarning, UsageError

GROUP = "cvgeo.parts"

KINDS = {
    "input": "cvgeo.models.inputs",
    "backbone": "cvgeo.models.backbones",
    "attention": "cvgeo.models.attention",
    "aggregator": "cvgeo.models.aggregators",
    "loss": "cvgeo.losses",
}
_REGISTERED: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}


def register(kind: str, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Class or function decorator: `@register("attention", "cbam")`. A name can be taken once."""

    def add(builder: Callable[..., Any]) -> Callable[..., Any]:
        taken = _REGISTERED[kind].get(name)
        if taken is not None and (taken.__module__, taken.__qualname__) != (builder.__module__, builder.__qualname__):
            raise ValueError(f"{kind} {name!r} is registered already by {taken.__module__}.{taken.__qualname__}")
        _REGISTERED[kind][name] = builder
        return builder

    return add


def _import_all(kind: str) -> None:
    package = importlib.import_module(KINDS[kind])
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{KINDS[kind]}.{module.name}")


@cache
def _import_others() -> None:
    """Import the modules of other packages, once. One that fails costs a warning and its own parts, nothing else."""
    for entry in entry_points(group=GROUP):
        before = {kind: dict(known) for kind, known in _REGISTERED.items()}
        try:
            entry.load()
        except Exception as error:
            # Whatever another's code raises: its half of the work is taken back.
            _REGISTERED.update(before)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warnings.warn(f"the parts of {_package(entry)} cannot be used: {reason}", CvgeoWarning, stacklevel=2)


def _package(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist is not None else f"the module {entry.module}"


def names(kind: str, pattern: str = "*") -> list[str]:
    """Registered names of a kind that match a glob pattern, sorted."""
    _import_all(kind)
    _import_others()
    return sorted(name for name in _REGISTERED[kind] if fnmatch(name, pattern))


def builder_of(kind: str, name: str) -> Callable[..., Any]:
    """What constructs a part. Raises UsageError for an unknown name (with the nearest)."""
    known = names(kind)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "known: " + ", ".join(known)
        raise UsageError(f"unknown {kind} {name!r}", mend=hint)
    return _REGISTERED[kind][name]


def build(kind: str, name: str, **options: Any) -> Any:
    """Construct a part. Raises UsageError for an unknown name (with the nearest) and for options it does not take."""
    builder = builder_of(kind, name)
    try:
        return builder(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise UsageError(f"{kind} {name} cannot be built with {given or 'no options'}: {error}") from error
