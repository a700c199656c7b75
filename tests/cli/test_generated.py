"""completions/ and man/ are what the program says, and work in their shells and readers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from cvgeo.cli import _generate, _manual, app
from cvgeo.cli.pages import Page
from tests.cli.terminal import INTERRUPT, Terminal, plain

ROOT = Path(__file__).resolve().parents[2]
COMPLETIONS = ROOT / "completions"
MAN_PAGES = sorted((ROOT / "man").glob("*.[17]"))


def leaves(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (leaves(child) if child.commands else [child])]


PAGES = leaves(app.program_page())


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def test_generated_files_are_current():
    assert _generate.differences(ROOT) == [], "run: python -m cvgeo.cli._generate"


def test_generated_files_depend_on_nothing_around(monkeypatch):
    before = _generate.generated()
    for key, value in {"COLUMNS": "40", "CVGEO_SEED": "5", "HOME": "/nowhere", "LC_ALL": "C"}.items():
        monkeypatch.setenv(key, value)
    assert _generate.generated() == before


def test_check_names_what_differs(tmp_path, capsys):
    assert _generate.main([str(tmp_path)]) == 0
    assert _generate.main(["--check", str(tmp_path)]) == 0
    (tmp_path / "man" / "cvgeo.1").write_text("old")
    (tmp_path / "man" / "cvgeo-gone.1").write_text("old")
    capsys.readouterr()
    assert _generate.main(["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == ["man/cvgeo-gone.1", "man/cvgeo.1"]
    assert _generate.main([str(tmp_path)]) == 0
    assert not (tmp_path / "man" / "cvgeo-gone.1").exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_page_has_the_parsers_parameters(page):
    command = typer.main.get_command(app.app)
    for word in page.name.split():
        command = command.commands[word]
    parsed = {name for one in command.params for name in (*one.opts, *one.secondary_opts) if name.startswith("-")}
    assert {name for one in page.options for name in (*one.names, *one.negations)} == parsed | {"-h", "--help"}
    assert {one.key for one in page.arguments} == {one.name for one in command.params if one.opts == [one.name]}
    assert all(one.help for one in page.parameters), "every parameter has a help text"


@pytest.mark.parametrize("path", MAN_PAGES, ids=lambda path: path.name)
@needs("mandoc")
def test_man_page_is_clean(path):
    result = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "")


def test_the_programs_page_names_the_longer_ones():
    longer = [path.stem for path in MAN_PAGES if path.suffix == ".7"]
    text = (ROOT / "man" / "cvgeo.1").read_text().replace("\\", "")
    assert sorted(_manual.LONGER) == longer and all(f".BR {name} (7)" in text for name in longer)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@needs("mandoc")
def test_man_page_shows_every_option_and_example(page):
    path = ROOT / "man" / f"{page.title.replace(' ', '-')}.1"
    text = subprocess.run(["mandoc", "-T", "ascii", "-O", "width=300", path], capture_output=True, text=True).stdout
    text = re.sub(".\b", "", text)
    sections = re.findall(r"^[A-Z][A-Z ]+$", text, flags=re.M)
    wanted = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "EXAMPLES",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "SEE ALSO",
    ]
    assert [section for section in sections if section != "ARGUMENTS"] == wanted
    for option in page.options:
        assert all(name in text for name in option.names)
    for line, _ in page.examples:
        assert line in text


def bash(line: str) -> list[str]:
    """What bash offers at the end of a line of separate words."""
    script = f"""
        source {COMPLETIONS / "cvgeo.bash"}
        complete -p cvgeo >/dev/null || exit 1
        COMP_WORDS=({line}); [[ "$1" == spaced ]] && COMP_WORDS+=("")
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _cvgeo_completion
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    words = ["bash", "--norc", "-c", script, "bash", "spaced" if line.endswith(" ") else "joined"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()


def fish(line: str) -> list[str]:
    """What fish offers."""
    script = f"source {COMPLETIONS / 'cvgeo.fish'}; complete -C '{line}'"
    result = subprocess.run(["fish", "-N", "-c", script], capture_output=True, text=True, check=True)
    assert result.stderr == ""
    return [one.split("\t")[0] for one in result.stdout.splitlines()]


SETUPS = {
    "zsh -f -i": f"fpath=({COMPLETIONS} $fpath); autoload -Uz compinit; compinit -u -D",
    "bash --norc --noprofile -i": f"bind 'set show-all-if-ambiguous on'; source {COMPLETIONS / 'cvgeo.bash'}",
}


def typed(shell: str, line: str, wanted: list[str], folder: Path) -> str:
    """What an interactive shell shows after the line and two tabs, until all wanted is there or 10 s are over."""
    environment = {**os.environ, "TERM": "dumb", "HOME": str(folder)}
    with Terminal(shell.split(), environment, Path.cwd(), columns=100) as terminal:
        terminal.type(f"{SETUPS[shell]}; echo READ''Y\n")
        assert terminal.read("READY\r\n")
        before = len(terminal.text)
        terminal.type(f"{line}\t\t")
        terminal.read(*wanted, seconds=10)
        terminal.type(INTERRUPT)
        return plain(terminal.text[before:])


COMMANDS = sorted({page.name.split()[0] for page in PAGES})


def test_zsh_file_starts_as_compinit_wants():
    assert (COMPLETIONS / "_cvgeo").read_text().startswith("#compdef cvgeo\n")


@pytest.mark.parametrize("shell", [pytest.param(bash, marks=needs("bash")), pytest.param(fish, marks=needs("fish"))])
class TestShells:
    def test_commands(self, shell):
        assert sorted(set(shell("cvgeo "))) == COMMANDS
        assert sorted(set(shell("cvgeo build-dataset "))) == sorted(
            page.name.split()[1] for page in PAGES if page.name.startswith("build-dataset ")
        )
        assert shell("cvgeo pol") == ["polar"]

    def test_options(self, shell):
        assert "--convention" in shell("cvgeo polar --c")
        assert "--convention" in shell("cvgeo -q polar --c")
        assert "--version" not in shell("cvgeo polar --v")

    def test_choices(self, shell):
        assert sorted(shell("cvgeo polar --convention ")) == ["paper", "safa"]


@needs("fish")
def test_fish_offers_file_names(tmp_path, monkeypatch):
    (tmp_path / "tile.png").touch()
    monkeypatch.chdir(tmp_path)
    assert "tile.png" in fish("cvgeo polar ti")
    assert "tile.png" not in fish("cvgeo ti")
    assert "tile.png" in fish("cvgeo polar --output ti")


@pytest.fixture
def things(tmp_path, monkeypatch):
    """A folder with a store, a checkpoint and a picture, and data sets that have names."""
    for name in ("cvusa", "our own/data", "vigor"):
        (tmp_path / "sets" / name).mkdir(parents=True)
    (tmp_path / "here" / "run").mkdir(parents=True)
    for name in ("tiles.h5", "tile.png", "model.safetensors", "odd [b].png", "area.tif", "box.geojson"):
        (tmp_path / "here" / name).touch()
    monkeypatch.setenv("CVGEO_DATA", str(tmp_path / "sets"))
    monkeypatch.chdir(tmp_path / "here")


# What stands before TAB, what must be offered then, and what must not.
OFFERS = [
    ("cvgeo train -d ", ["cvusa", "vigor"], ["tile.png"]),
    ("cvgeo train --model mc", ["mc_gra", "mc_gra_small"], ["model.safetensors"]),
    ("cvgeo train --recipe p", ["paper", "paper-small"], ["polar"]),
    ("cvgeo embed --model ", ["zero_shot", "model.safetensors"], ["paper-small"]),
    ("cvgeo embed --model r", ["run"], ["paper"]),
    ("cvgeo search --store t", ["tiles.h5"], ["tiny"]),
    ("cvgeo info ", ["vigor", "tiles.h5", "tile.png"], ["zero_shot"]),
    ("cvgeo build-dataset check v", ["vigor"], ["cvusa"]),
    ("cvgeo models mc_gra_s", ["mc_gra_small"], ["tile.png"]),
    ("cvgeo config po", ["polar"], ["tile.png"]),
    ("cvgeo polar ti", ["tile.png"], ["tiny"]),
    ("cvgeo train --area ar", ["area.tif"], ["imagenet"]),
    ("cvgeo train --weights ", ["imagenet", "none", "model.safetensors"], ["tiny"]),
    ("cvgeo train -o ", ["run"], ["tile.png"]),
    ("cvgeo demo ", ["run"], ["tile.png"]),
    ("cvgeo index --milvus r", ["run"], ["cvusa"]),
    ("cvgeo search --polygon b", ["box.geojson"], ["run"]),
    ("cvgeo evaluate --distractors ", ["cvusa", "vigor", "run"], ["tile.png"]),
    ("cvgeo ablate --table ", ["small", "tile.png"], ["imagenet"]),
    ("cvgeo heatmap --device ", ["cpu", "cuda"], ["tile.png"]),
    ("cvgeo --log-file bo", ["box.geojson"], ["demo"]),
]


@pytest.mark.parametrize(("line", "words", "others"), OFFERS)
@pytest.mark.parametrize("shell", [pytest.param(bash, marks=needs("bash")), pytest.param(fish, marks=needs("fish"))])
def test_data_sets_models_stores_and_files_are_offered(shell, line, words, others, things):
    offered = {word.rstrip("/") for word in shell(line)}
    assert offered >= set(words) and not offered & set(others)


@needs("bash")
def test_bash_falls_back_to_file_names():
    assert "complete -o default" in (COMPLETIONS / "cvgeo.bash").read_text()


@pytest.mark.parametrize("shell", [pytest.param(one, marks=needs(one.split()[0])) for one in SETUPS])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("cvgeo ", COMMANDS),
        ("cvgeo build-dataset ", [page.name.split()[1] for page in PAGES if page.name.startswith("build-dataset ")]),
        ("cvgeo polar --convention ", ["paper", "safa"]),
        ("cvgeo polar --", ["--convention", "--height"]),
        ("cvgeo polar /et", ["/etc/"]),
        *((line, words) for line, words, _ in OFFERS if len(words) > 1),
        # One that is left is put into the line, as the shell takes it.
        ("cvgeo train -d our", [r"our\ own"]),
        ("cvgeo info od", [r"odd\ \[b\].png"]),
        ("cvgeo polar 'od", ["'odd [b].png'"]),
        ("cvgeo search --store=til", ["--store=tiles.h5"]),
        ("cvgeo -q search --format=g", ["--format=geojson"]),
        ("cvgeo train --area", ["--area"]),
    ],
)
def test_interactive_shells(shell, line, words, tmp_path, things):
    shown = typed(shell, line, words, tmp_path)
    assert all(word in shown for word in words), shown
