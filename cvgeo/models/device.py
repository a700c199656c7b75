"""Where a model runs."""

from __future__ import annotations

import torch

from cvgeo.errors import UsageError


def choose_device(name: str = "auto") -> torch.device:
    """The device that a user names: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N`.

    Raises UsageError for another name and for a device that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not (kind == "cuda" and number.isdecimal())):
        raise UsageError(f"unknown device {name!r}", mend="auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UsageError(f"device {name!r}: this machine has {count} CUDA devices", mend="use --device auto")
    return torch.device(name)
