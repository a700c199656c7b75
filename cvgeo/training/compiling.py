"""torch.compile for training steps, where the machine has what it takes. Names of weights stay."""

from __future__ import annotations

import importlib.util
import os
import shutil
from contextlib import AbstractContextManager, nullcontext

import torch

from cvgeo.models import Embedder
from cvgeo.report import Reporter

COMPILERS = ("g++", "clang++")


def compiler_fault(device: torch.device) -> str | None:
    """What a machine lacks to compile for a device, None where nothing."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    if not any(shutil.which(name) for name in names):
        return f"no C++ compiler is found ({', '.join(names)})"
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return None


def compile_model(model: Embedder, reporter: Reporter) -> bool:
    """Compile a model's branches at their first step, each shape anew; whether it will be.

    Where nothing can be compiled one line says so, and the model stays as it is.
    """
    fault = compiler_fault(next(model.parameters()).device)
    if fault is not None:
        reporter.warn(f"train.compile: {fault}: trains without it")
        return False
    for branch in model.branches.values():
        branch.compile(dynamic=False)
    return True


def as_written(compiled: bool) -> AbstractContextManager[None]:
    """A context in which a compiled model runs uncompiled: other modes and batch sizes are not worth compiling for."""
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()
