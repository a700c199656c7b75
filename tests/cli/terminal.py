"""A program in a pseudo-terminal: its size, what is typed, the signals that it gets, what it shows, how it ends."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

INTERRUPT, SUSPEND = "\x03", "\x1a"  # what Ctrl-C and Ctrl-Z type


class Terminal:
    """A running program whose terminal this is; a context manager, which kills what is left of it.

    `streams` go to subprocess.Popen in place of the terminal: a pipe for stdout, say.
    """

    def __init__(
        self,
        words: Sequence[str | bytes | Path],
        environment: Mapping[str, str],
        folder: Path,
        columns: int = 80,
        **streams: object,
    ):
        self._terminal, inside = os.openpty()
        self.resize(columns)
        self.raw = b""
        settings = {"stdin": inside, "stdout": inside, "stderr": inside} | streams
        # A session of its own, whose terminal this is: Ctrl-C and a new size reach whatever stands in front there.
        settings |= {"start_new_session": True, "preexec_fn": lambda: fcntl.ioctl(inside, termios.TIOCSCTTY, 0)}
        self.process = subprocess.Popen(words, cwd=folder, env={"TERM": "xterm", **environment}, **settings)
        os.close(inside)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)

    @property
    def text(self) -> str:
        """All that it showed."""
        return self.raw.decode(errors="replace")

    def resize(self, columns: int, lines: int = 24) -> None:
        """Give the terminal another size, of which the kernel tells the program."""
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type something: a control character is a signal to what stands in front."""
        os.write(self._terminal, text.encode())

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the program alone."""
        self.process.send_signal(number)

    def read(self, *until: str, seconds: float = 20) -> bool:
        """Read on until all of some words came since the last call; whether they did before it ended or time was up."""
        new, end = b"", time.monotonic() + seconds
        while not (until and all(word.encode() in new for word in until)):
            if (left := end - time.monotonic()) <= 0:
                return False
            if not select.select([self._terminal], [], [], left)[0]:
                continue
            try:
                part = os.read(self._terminal, 65536)
            except OSError:  # nobody has it open any more
                return False
            new += part
            self.raw += part
        return True

    def finish(self, seconds: float = 120) -> int:
        """Read to the end; the exit status."""
        self.read(seconds=seconds)
        return self.process.wait(timeout=5)


def in_terminal(
    words: Sequence[str | bytes | Path], environment: Mapping[str, str], folder: Path, columns: int = 80
) -> tuple[int, str]:
    """Run a program in a terminal; its exit status and all that it showed."""
    with Terminal(words, environment, folder, columns) as terminal:
        return terminal.finish(), terminal.text


def plain(text: str) -> str:
    """A text without what dresses it up or moves the cursor."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x07", "", text)
