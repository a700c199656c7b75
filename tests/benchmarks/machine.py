"""What a benchmark ran on: the figures' own description of the machine, without its name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Hardware"))]
    return names[0] if names else platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.system()} {platform.release().split('-')[0]}"


def _accelerators() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def describe_machine() -> dict[str, Any]:
    """CPU, cores that may be used, memory in GiB, GPUs, system, and the versions of what the speed hangs on."""
    import cv2
    import h5py
    import numpy
    import torch

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    modules = {"torch": torch, "opencv": cv2, "numpy": numpy, "h5py": h5py}
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "gpus": _accelerators(),
        "system": _system(),
        "python": platform.python_version(),
        **{name: module.__version__ for name, module in modules.items()},
    }


def machine_line(machine: dict[str, Any]) -> str:
    """The same in one line."""
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    versions = ", ".join(f"{name} {machine[name]}" for name in ("python", "torch", "opencv", "numpy", "h5py"))
    hardware = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {gpus}"
    return f"{hardware}; {machine['system']}; {versions}"


def peak_mib() -> float:
    """Peak resident memory of this process, in MiB, since it started or `forget_peak` was called.

    Not ru_maxrss, which a process takes over from the one that starts it.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def forget_peak() -> None:
    """Have `peak_mib` start again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
