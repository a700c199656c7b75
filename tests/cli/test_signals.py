"""Ctrl-C and SIGTERM: told at once, the right status, no traceback, no orphans, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest


def descendants(pid: int) -> list[int]:
    """Process ids of all children of a process and theirs."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(one) for one in children.read_text().split()] if children.exists() else []
    return found + [deeper for one in found for deeper in descendants(one)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def working(toy_words, environment, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """The toy program in the middle of work with two worker processes."""
    yield from start([*toy_words, "work", "30", "--output", "out.txt"], environment, tmp_path)


@pytest.fixture
def stubborn(toy_words, environment, tmp_path) -> Iterator[subprocess.Popen[bytes]]:
    """The same, in a pipeline that holds on to its work after the first Ctrl-C."""
    yield from start([*toy_words, "work", "30", "--stubborn"], environment, tmp_path)


def start(words: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(words, env=environment, cwd=folder, stdout=pipe, stderr=pipe, start_new_session=True) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"started\n"
        assert wait_until(lambda: len(descendants(one.pid)) >= 2)
        yield one
        if one.poll() is None:
            one.kill()


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


@linux
@pytest.mark.parametrize(
    ("number", "status", "text"),
    [(signal.SIGINT, 130, b"cvgeo: interrupted\n"), (signal.SIGTERM, 143, b"cvgeo: terminated\n")],
)
@pytest.mark.parametrize("whole_group", [False, True])
def test_signal_ends_everything(working, tmp_path, number, status, text, whole_group):
    workers = descendants(working.pid)
    began = time.monotonic()
    os.killpg(working.pid, number) if whole_group else working.send_signal(number)
    _, messages = working.communicate(timeout=20)
    assert working.returncode == status
    assert messages == text
    assert time.monotonic() - began < 5
    assert wait_until(lambda: not any(alive(pid) for pid in workers))
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


@linux
def test_second_interrupt_leaves_at_once(stubborn):
    workers = descendants(stubborn.pid)
    os.killpg(stubborn.pid, signal.SIGINT)
    assert stubborn.stderr is not None
    assert stubborn.stderr.readline() == b"cvgeo: interrupted\n"
    time.sleep(0.3)
    os.killpg(stubborn.pid, signal.SIGINT)
    stubborn.communicate(timeout=5)
    assert stubborn.returncode == 130
    assert wait_until(lambda: not any(alive(pid) for pid in workers))


@linux
def test_background_job_keeps_interrupts_ignored(toy_words, environment, tmp_path):
    # A shell without job control starts jobs with SIGINT ignored: the program must not take it back.
    line = f"trap '' INT; exec {' '.join(toy_words)} work 0.3"
    for running in start(["bash", "-c", line], environment, tmp_path):
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
        assert running.returncode == 0


def test_interrupt_inside_a_destructor_is_not_lost():
    code = """if True:
        import os, signal, time
        from cvgeo.cli import stopping
        class Fleeting:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
        stopping.prepare()
        try:
            fleeting = Fleeting()
            del fleeting
            time.sleep(20)
        except KeyboardInterrupt:
            print("unwound")
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)
    assert (result.stdout, result.stderr) == (b"unwound\n", b"cvgeo: interrupted\n")


def test_interrupt_inside_a_destructor_at_the_very_end_does_not_kill():
    code = """if True:
        import atexit, os, signal, time
        from cvgeo.cli import stopping
        class Fleeting:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
        atexit.register(time.sleep, 0.1)
        stopping.prepare()
        Fleeting()
        stopping.finish()
    """
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)
    assert (result.returncode, result.stderr) == (0, b"cvgeo: interrupted\n")


def test_interrupt_during_start_shows_no_traceback_of_ours(toy_words, environment, tmp_path):
    seen = set()
    for delay in (0.15, 0.25, 0.35):
        pipe = subprocess.PIPE
        with subprocess.Popen(
            [*toy_words, "work", "5"], env=environment, cwd=tmp_path, stdout=pipe, stderr=pipe, start_new_session=True
        ) as one:
            time.sleep(delay)
            os.killpg(one.pid, signal.SIGINT)
            one.communicate(timeout=20)
            seen.add(one.returncode)
    assert seen <= {130, -signal.SIGINT}
