"""Checks: what is wrong or worth knowing in a data set, one function a check, in one module a group.

A new check is one function `check(evidence) -> Findings` with the decorator `check`. It reads no file: what there is to
know of the pictures stands in the evidence, and what is not known there (NaN, 0, empty) is passed over.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace

from cvgeo.data.checks.evidence import FAULT, REMARK, Evidence, Finding, by_split

Findings = Iterator[Finding]
Check = Callable[[Evidence], Findings]

_CHECKS: dict[str, Check] = {}

__all__ = ["FAULT", "REMARK", "Evidence", "Finding", "Findings", "by_split", "check", "checks", "find_all"]


def check(name: str) -> Callable[[Check], Check]:
    """Decorator that adds a check; its findings carry this name."""

    def add(function: Check) -> Check:
        _CHECKS[name] = function
        return function

    return add


def checks() -> dict[str, Check]:
    """All checks by name, in the order of their modules."""
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda one: one.name):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(_CHECKS)


def find_all(evidence: Evidence) -> list[Finding]:
    """The findings of every check, faults first."""
    found = [replace(one, check=name) for name, function in checks().items() for one in function(evidence)]
    return sorted(found, key=lambda one: one.grade != FAULT)
