"""Bars on terminals of any width, that change it, that put the program aside or kill it."""

from __future__ import annotations

import json
import re
import shlex
import signal

import pytest

from tests.cli.terminal import SUSPEND, Terminal, in_terminal, plain

FIGURES = r"\d+/20  \d+/s  0:00:0\d"


def lines(text: str) -> list[str]:
    """Each line as it was drawn, every time."""
    return [line for line in re.split(r"[\r\n]+", plain(text)) if line]


@pytest.fixture
def climb(toy_words):
    """The words of a call with bars of a long name."""
    return [*toy_words, "climb", "--name", "climbing\nthe/long/東京/stairs/of/a/tall/house"]


@pytest.fixture
def shell(environment, tmp_path, climb):
    """An interactive bash with job control, `climb` in it the call."""
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environment | {"PS1": "ready "}, tmp_path) as terminal:
        terminal.type(f"climb() {{ {shlex.join(climb)} \"$@\"; }}\nPS1='ready ' && echo st''art\n")
        assert terminal.read("start\r\n")
        yield terminal


@pytest.mark.parametrize("columns", [200, 80, 40])
def test_amount_rate_and_time_left_at_any_width(climb, environment, tmp_path, columns):
    status, text = in_terminal(climb, environment, tmp_path, columns)
    drawn = lines(text)
    assert status == 0 and drawn[-1] == '{"floors": 2}' and drawn.count("cvgeo: a floor higher") == 2
    assert any(re.search(rf"^climbing.*{FIGURES}$", line) for line in drawn), text
    assert any(re.search(r"^floors .*1/2 ", line) for line in drawn), text
    # Those letters are two cells wide.
    assert max(len(line.replace("東京", "東.京.")) for line in drawn if line[0] != "{") < columns


def test_a_narrow_terminal_shows_what_it_has_room_for(climb, environment, tmp_path):
    status, text = in_terminal(climb, environment, tmp_path, 20)
    assert status == 0 and any(re.match(r"climbing +\d+/20", line) for line in lines(text)), text
    assert max(len(line) for line in lines(text) if "floor" not in line) < 20


def test_records_between_bars_are_whole(climb, environment, tmp_path):
    _, text = in_terminal(climb, environment, tmp_path, 40)
    records = [json.loads(line) for line in lines(text) if line.startswith("{")]
    assert records == [*({"floor": number, "name": "東 " * 100} for number in (0, 1)), {"floors": 2}]


@pytest.mark.parametrize(("variables", "dressed"), [({"NO_COLOR": "1"}, False), ({}, True)])
def test_colours(climb, environment, tmp_path, variables, dressed):
    _, text = in_terminal(climb, environment | variables, tmp_path)
    assert "━" in text and bool(re.search(r"\x1b\[[0-9;]*m", text)) is dressed


@pytest.mark.parametrize(("words", "variables"), [(["-q"], {}), ([], {"TERM": "dumb"})])
def test_no_bars_where_they_are_not_wanted(toy_words, environment, tmp_path, words, variables):
    status, text = in_terminal([*toy_words, *words, "climb"], environment | variables, tmp_path)
    assert status == 0 and all(line[0] == "{" or line == "cvgeo: a floor higher" for line in lines(text))


def test_a_new_size_is_kept_to(climb, environment, tmp_path):
    with Terminal(climb, environment, tmp_path, 100) as terminal:
        assert terminal.read("━")
        terminal.resize(40)
        assert terminal.read("/20")
        before = len(terminal.text)
        assert terminal.finish() == 0
        assert (
            max(len(line.replace("東京", "東.京.")) for line in lines(terminal.text[before:])[1:] if line[0] != "{")
            < 40
        )


def test_it_can_be_suspended_and_go_on(shell):
    shell.type("climb; echo status $?\n")
    assert shell.read("━")
    shell.type(SUSPEND)
    assert shell.read("Stopped")
    before = shell.text
    assert not shell.read("━", seconds=0.5) and "\x1b[?25l" not in before
    shell.type("fg\n")
    assert shell.read("━") and shell.read('{"floors": 2}', "ready ")


def test_it_draws_nothing_when_it_goes_on_in_the_background(shell):
    shell.type("climb\n")
    assert shell.read("0:00:0")
    shell.type(SUSPEND)
    assert shell.read("Stopped", "ready ")
    shell.type("bg; e''cho behind\n")
    assert shell.read("behind")
    assert shell.read('{"floors": 2}')
    after = shell.text.rpartition("behind")[2]
    assert "━" not in after and "cvgeo: a floor higher\r\n" in after


def test_a_background_job_is_never_stopped_by_the_terminal(shell):
    shell.type("stty tostop; climb -q > out.txt &\nwait; e''cho over; cat out.txt\n")
    assert shell.read("over", "floors"), shell.text
    assert "Stopped" not in shell.text and "━" not in shell.text and "Done" in shell.text


def test_the_cursor_is_there_when_it_is_killed(climb, environment, tmp_path):
    with Terminal(climb, environment, tmp_path) as terminal:
        assert terminal.read("━")
        terminal.send(signal.SIGKILL)
        assert terminal.finish() == -signal.SIGKILL
        assert "\x1b[?25l" not in terminal.text
