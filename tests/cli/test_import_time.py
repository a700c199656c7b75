"""Help and settings start without the heavy libraries."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cvgeo.cli.app import COMMANDS

# pydantic is a third of a second on a slow machine; Typer loads it when it parses values, which help does not need.
HEAVY = {"pydantic", "torch", "torchvision", "cv2", "h5py", "numpy", "rasterio", "PIL", "matplotlib", "safetensors"}
CALLS = [["--help"], *([*name.split(), "--help"] for name, _, _ in COMMANDS)]


@pytest.mark.parametrize("words", CALLS, ids=" ".join)
def test_nothing_heavy_is_imported(words, environment):
    command = [sys.executable, "-X", "importtime", "-m", "cvgeo", *words]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0
    imported = set(re.findall(r"^import time:.*\|\s*([\w.]+)$", result.stderr, flags=re.M))
    assert "typer" in imported
    assert not HEAVY & {name.split(".")[0] for name in imported}


def test_threads_are_said_before_what_uses_them_is_imported(environment):
    code = "import sys; from cvgeo.cli import options, embed, evaluate, search; options.use_threads(1); "
    code += "assert not {'torch', 'numpy', 'cv2'} & set(sys.modules); import torch; print(torch.get_num_threads())"
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout == "1\n", done.stderr
