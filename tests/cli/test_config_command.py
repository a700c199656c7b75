"""`cvgeo config` tells the value that a command would get, and who says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cvgeo.cli import app
from cvgeo.cli.pages import Page
from cvgeo.cli.settings import settable


def leaves(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (leaves(child) if child.commands else [child])]


@pytest.fixture
def config(program, tmp_path):
    """A function (words, project, user, env): the records by command and setting, and the finished process."""

    def call(*words: str, project: str = "", user: str = "", env: dict[str, str] | None = None):
        (tmp_path / "here" / "cvgeo.toml").write_text(project)
        (tmp_path / "user.toml").write_text(user)
        done = program("config", *words, env={"CVGEO_CONFIG": str(tmp_path / "user.toml")} | (env or {}))
        records = [json.loads(line) for line in done.stdout.splitlines()]
        return {(one["command"], one["setting"]): one for one in records}, done

    return call


def test_every_setting_of_every_command_is_listed_once(config):
    found, done = config()
    assert done.returncode == 0 and done.stderr == b""
    expected = {(page.name, name) for page in leaves(app.program_page()) for name in settable(page)}
    folders = {(None, f"CVGEO_{name}") for name in ("DATA", "CACHE", "STATE", "CONFIG")}
    assert set(found) == expected | folders and len(done.stdout.splitlines()) == len(found)
    assert {one["source"] for key, one in found.items() if key[0]} == {"default"}
    assert found["polar", "height"]["value"] == 112 and found["build-dataset tiles", "tile-metres"]["value"] == "60"
    assert found["embed", "join"]["value"] is False and found["train", "output"]["value"] is None


def test_each_source_and_what_wins(config, tmp_path):
    env = {"CVGEO_DEVICE": "cpu", "CVGEO_TRAIN_EPOCHS": "7", "CVGEO_EMBED_DEVICE": "cuda:1"}
    project, user = "device = 'cuda'\n[train]\nepochs = 5\nbatch-size = 8", "jobs = 3\n[train]\nbatch_size = 4"
    found, done = config("--changed", project=project, user=user, env=env)
    assert done.returncode == 0 and done.stderr == b""

    def told(*key):
        return tuple(found[key][name] for name in ("value", "source", "where"))

    assert told("train", "epochs") == (7, "environment", "CVGEO_TRAIN_EPOCHS")
    assert told("train", "device") == told("embed", "device") == ("cpu", "environment", "CVGEO_DEVICE")
    assert told("train", "batch-size") == (8, "project", "cvgeo.toml")
    assert told("build-dataset pairs", "jobs") == (3, "user", str(tmp_path / "user.toml"))
    assert told(None, "CVGEO_CONFIG") == (str(tmp_path / "user.toml"), "environment", "CVGEO_CONFIG")
    assert ("train", "seed") not in found


def test_what_is_told_is_what_a_command_gets(config, program, tmp_path, make_rings):
    found, _ = config("polar", project="height = 8\n[polar]\nwidth = 12", env={"CVGEO_POLAR_CONVENTION": "safa"})
    assert [found["polar", key]["value"] for key in ("height", "width", "convention")] == [8, 12, "safa"]
    picture = make_rings(tmp_path / "data", train=1, val=0).tiles.path[0]
    done = program("polar", str(picture), "-o", "map.png", "--json", env={"CVGEO_POLAR_CONVENTION": "safa"})
    record = json.loads(done.stdout)
    assert (record["height"], record["width"], record["convention"]) == (8, 12, "safa")


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        (["train"], {"train"}),
        (["build-dataset", "tiles"], {"build-dataset tiles"}),
        (["build-dataset"], {f"build-dataset {one}" for one in ("pairs", "tiles", "area", "world", "check")}),
    ],
)
def test_one_command_or_a_group(config, words, commands):
    found, _ = config(*words)
    assert {command for command, _ in found} == commands


def test_bad_words_values_and_variables(config):
    _, done = config("trian")
    assert done.returncode == 2 and done.stderr == b"cvgeo: no command 'trian'; did you mean train?\n"
    found, done = config("train", "--changed", env={"CVGEO_TRAIN_EPOCHS": "many", "CVGEO_TRIAN_EPOCHS": "3"})
    lines = done.stderr.decode().splitlines()
    assert done.returncode == 5 and found["train", "epochs"]["value"] == "many"
    assert lines[0].endswith("CVGEO_TRIAN_EPOCHS: no such setting; did you mean CVGEO_TRAIN_EPOCHS?")
    assert lines[1].startswith("cvgeo: CVGEO_TRAIN_EPOCHS: ") and lines[1].endswith("mend or unset it")


@pytest.mark.parametrize("text", ["[train]\nepohcs = 3", "[trian]\nepochs = 3", "epohcs = 3"])
def test_an_unknown_key_is_one_line_with_the_nearest_name(config, text):
    found, done = config(project=text)
    assert done.returncode == 2 and not found
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("cvgeo: cvgeo.toml: unknown setting ") and line.split("did you mean ")[1] in (
        "epochs?",
        "train?",
    )


def test_table(program, tmp_path):
    (tmp_path / "here" / "cvgeo.toml").write_text("[train]\noverwrite = true")
    text = program("config", "train", "--changed", "--format", "table").stdout.decode()
    heading, _, row = text.splitlines()
    assert heading.split() == ["command", "setting", "value", "source", "where"]
    assert row.split() == ["train", "overwrite", "yes", "project", str(Path("cvgeo.toml"))]
