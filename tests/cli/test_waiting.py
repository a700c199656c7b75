"""Nothing is silent for long on a terminal, and nothing of that stays there or gets anywhere else."""

from __future__ import annotations

import re

import pytest

from tests.cli.terminal import INTERRUPT, Terminal, in_terminal


def left(output: str) -> list[str]:
    """What stays on the screen: a wiped line does not."""
    return [line.rpartition("\r\x1b[K")[2] for line in output.replace("\r\n", "\n").split("\n")[:-1]]


def test_a_silent_phase_is_named_on_a_terminal(toy_words, environment, tmp_path):
    status, output = in_terminal([*toy_words, "ponder"], environment, tmp_path)
    assert status == 0
    assert re.search(r"\r\x1b\[Kpondering a\?file \.\.\. [12] s", output)
    assert left(output) == ["cvgeo: pondered", '{"seconds": 2.0}']


@pytest.mark.parametrize(("words", "variables"), [(["-q"], {}), ([], {"TERM": "dumb"})])
def test_it_is_not_named_where_that_is_not_wanted(toy_words, environment, tmp_path, words, variables):
    status, output = in_terminal([*toy_words, *words, "ponder"], environment | variables, tmp_path)
    assert status == 0 and "pondering" not in output and "\x1b" not in output


def test_nothing_is_named_away_from_a_terminal(program):
    result = program("ponder", "--seconds", "1.5", toy=True)
    assert (result.returncode, result.stderr) == (0, b"cvgeo: pondered\n")


def test_it_leaves_with_an_interrupt(toy_words, environment, tmp_path):
    with Terminal([*toy_words, "ponder", "--seconds", "20"], environment, tmp_path) as terminal:
        assert terminal.read("...")
        terminal.type(INTERRUPT)
        assert terminal.finish() == 130
    assert left(terminal.text.replace("^C", "")) == ["cvgeo: interrupted"]


def test_it_never_wraps(toy_words, environment, tmp_path):
    _, output = in_terminal([*toy_words, "ponder"], environment, tmp_path, columns=20)
    shown = re.findall(r"\r\x1b\[K(pond[^\r]*)", output)
    assert shown and all(len(part) == 19 and part.endswith(" s") for part in shown)
