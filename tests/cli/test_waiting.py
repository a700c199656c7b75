"""Nothing is silent for long on a terminal, and nothing of that stays there or gets anywhere else."""

from __future__ import annotations

import os
import pty
import re
import signal
import time

import pytest


def in_terminal(words, environment, folder, after=None):
    """Run in a pseudo-terminal, `after` (seconds, signal) sending one; the exit status and all that it showed."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.execvpe(words[0], words, environment)
    output, began = b"", time.monotonic()
    while True:
        if after and b"..." in output and time.monotonic() - began > after[0]:
            os.kill(child, after[1])
            after = None
        try:
            part = os.read(terminal, 65536)
        except OSError:
            break
        if not part:
            break
        output += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), output.decode()


def left(output: str) -> list[str]:
    """What stays on the screen: a wiped line does not."""
    return [line.rpartition("\r\x1b[K")[2] for line in output.replace("\r\n", "\n").split("\n")[:-1]]


def test_a_silent_phase_is_named_on_a_terminal(toy_words, environment, tmp_path):
    status, output = in_terminal([*toy_words, "ponder"], environment | {"TERM": "xterm"}, tmp_path)
    assert status == 0
    assert re.search(r"\r\x1b\[Kpondering a\?file \.\.\. [12] s", output)
    assert left(output) == ["cvgeo: pondered", '{"seconds": 2.0}']


@pytest.mark.parametrize(("words", "variables"), [(["-q"], {"TERM": "xterm"}), ([], {"TERM": "dumb"})])
def test_it_is_not_named_where_that_is_not_wanted(toy_words, environment, tmp_path, words, variables):
    status, output = in_terminal([*toy_words, *words, "ponder"], environment | variables, tmp_path)
    assert status == 0 and "pondering" not in output and "\x1b" not in output


def test_nothing_is_named_away_from_a_terminal(program):
    result = program("ponder", "--seconds", "1.5", toy=True)
    assert (result.returncode, result.stderr) == (0, b"cvgeo: pondered\n")


def test_it_leaves_with_an_interrupt(toy_words, environment, tmp_path):
    words = [*toy_words, "ponder", "--seconds", "20"]
    status, output = in_terminal(words, environment | {"TERM": "xterm"}, tmp_path, after=(0.0, signal.SIGINT))
    assert status == 130 and left(output) == ["cvgeo: interrupted"]


def test_it_never_wraps(toy_words, environment, tmp_path):
    line = f"stty cols 20; exec {' '.join(toy_words)} ponder"
    _, output = in_terminal(["bash", "-c", line], environment | {"TERM": "xterm"}, tmp_path)
    shown = re.findall(r"\r\x1b\[K(pond[^\r]*)", output)
    assert shown and all(len(part) == 19 and part.endswith(" s") for part in shown)
