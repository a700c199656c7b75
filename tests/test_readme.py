"""README is run: its shell blocks as they stand, its settings, its Python, its links and its words on commands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import torchvision

from cvgeo.cli.app import COMMANDS, program_page
from cvgeo.cli.pages import Page

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.compile(r"(?:<!-- (?P<name>[\w-]+) -->\n)?```(?P<language>\w+)\n(?P<body>.*?)^```$", re.S | re.M)
BLOCKS = [match.groupdict() for match in FENCED.finditer(TEXT)]
SHELL = {block["name"]: block["body"] for block in BLOCKS if block["language"] == "sh" and block["name"]}


def leaves(page: Page) -> dict[str, Page]:
    return {
        name: one
        for child in page.commands
        for name, one in (leaves(child) if child.commands else {child.name: child}).items()
    }


def calls() -> list[list[str]]:
    """Every `cvgeo ...` in the shell blocks and in the text, as words."""
    lines = [line for body in SHELL.values() for line in body.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`(cvgeo [^`]+)`", TEXT)
    found = [match for line in lines for match in re.findall(r"(?:^|[\s/])(cvgeo\s[^|>&]*)", line)]
    return [shlex.split(one)[1:] for one in found]


def block(language: str) -> str:
    return next(one["body"] for one in BLOCKS if one["language"] == language)


@pytest.mark.parametrize("words", calls(), ids=" ".join)
def test_commands_and_options_exist(words):
    pages = leaves(program_page())
    if not words[0].islower() or words[0].startswith("-"):
        return
    name = next((name for name in pages if words[: len(name.split())] == name.split()), None)
    assert name is not None, f"no command {words}"
    known = {option for one in pages[name].options for option in one.names}
    assert {word.split("=")[0] for word in words if word.startswith("--") or re.fullmatch("-[a-z]", word)} <= known


def test_every_command_is_in_the_table():
    for name, _, _ in COMMANDS:
        assert f"| `cvgeo {name}" in TEXT


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_python_block_runs():
    subprocess.run([sys.executable, "-c", block("python")], check=True, timeout=120)


def test_settings_block_is_accepted(tmp_path, monkeypatch):
    from cvgeo.cli.settings import default_map

    (tmp_path / "cvgeo.toml").write_text(block("toml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CVGEO_CONFIG_DIR", str(tmp_path))
    settings = default_map(program_page())
    given = tomllib.loads(block("toml"))
    assert settings["train"]["epochs"] == given["train"]["epochs"]
    assert settings["embed"]["device"] == given["device"]


def test_set_up_commands_are_complete():
    for name, last in (("demo", "cvgeo demo"), ("tests", "pytest -n 2 -m 'not slow'")):
        lines = SHELL[name].strip()
        assert lines.endswith(last)
        for word in ("python3-venv", "libgl1", "python3 -m venv .venv", ".ci/requirements.lock"):
            assert word in lines
        subprocess.run(["bash", "-n", "-c", lines], check=True)


def shell(line: str, folder: Path, environment: dict[str, str]) -> str:
    environment = environment | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    words = ["bash", "-euo", "pipefail", "-c", line]
    result = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    return result.stdout


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_readme_from_world_to_places(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CVGEO_")}
    # A file of random weights serves to run the lines where no model hub is in reach.
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    environment |= {"HOME": str(tmp_path / "home"), "CVGEO_WEIGHTS": str(tmp_path / "resnet18.pth")}
    places = shell(SHELL["pipeline"], tmp_path, environment).splitlines()
    found = [line.split("\t") for line in places if "\t" in line]
    assert len(found) == 6
    assert all(-90 <= float(lat) <= 90 and -180 <= float(lon) <= 180 for _, lat, lon, _ in found)

    (tmp_path / "area.tif").symlink_to("world/ortho.tif")
    shutil.copytree(tmp_path / "world" / "panoramas", tmp_path / "photos")
    shutil.copy(tmp_path / "world" / "panoramas" / "00001.jpg", tmp_path / "picture.jpg")
    shell(SHELL["picture"], tmp_path, environment)
    assert len(json.loads((tmp_path / "place.geojson").read_text())["features"]) == 10
    assert (tmp_path / "sheet.png").stat().st_size > 0
    shell(SHELL["train"].replace("-o model", "--epochs 1 -o model"), tmp_path, environment)
    records = [json.loads(line) for line in shell(SHELL["script"], tmp_path, environment).splitlines()]
    assert len(records) == 60
