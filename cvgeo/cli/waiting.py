"""The line that tells a terminal what takes its time while nothing else moves there."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from cvgeo.cli.stopping import stopped_status

PATIENCE = 1.0  # seconds of silence before the line shows
STEP = 0.25
WIPE = "\r\x1b[K"


def dressed(handle: int) -> bool:
    """Whether a stream is a terminal on which lines can be wiped and drawn again."""
    return os.isatty(handle) and os.environ.get("TERM") != "dumb"


def in_front(handle: int) -> bool:
    """Whether the program has the terminal of a stream before it; a job in the background has not."""
    try:
        return os.tcgetpgrp(handle) == os.getpgrp()
    except OSError:  # it belongs to another session
        return True


class Waiting:
    """Shows `reading tiles.h5 ... 3 s` on stderr after a second of silence; wiped before anything else is said."""

    def __init__(self) -> None:
        self._what: str | None = "starting"
        self._held = 0
        self._lock = threading.RLock()
        self._began = self._heard = time.monotonic()
        self._shown = False
        self._ended: threading.Event | None = None

    def start(self) -> None:
        """Begin to watch the time, where stderr is a terminal."""
        if not dressed(2):
            return
        self._began = self._heard = time.monotonic()
        self._ended = threading.Event()
        threading.Thread(target=self._watch, args=(self._ended,), daemon=True).start()
        # A child has no such thread, and its copy of the lock may be held for ever.
        os.register_at_fork(after_in_child=self._forget)

    def stop(self) -> None:
        """Wipe the line for good."""
        if self._ended is not None:
            self._ended.set()
            self.hush()

    def hush(self) -> None:
        """Wipe the line: something else is shown."""
        if self._ended is None:
            return
        with self._lock:
            self._heard = time.monotonic()
            if self._shown:
                self._shown = False
                self._write(WIPE)

    def now(self, what: str | None) -> None:
        """Name what is done from here on; None where another process has the terminal."""
        self.hush()
        self._what, self._began = what, time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Show nothing inside of the block: bars do."""
        self.hush()
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.now("working")

    def _forget(self) -> None:
        self._ended, self._lock = None, threading.RLock()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(STEP) and stopped_status() is None:
            with self._lock:
                what, now = self._what, time.monotonic()
                if what is None or self._held or ended.is_set() or now - self._heard < PATIENCE:
                    continue
                if not in_front(2):
                    continue
                self._shown = True
                self._write(f"{WIPE}{_fitted(what, now - self._began)}")

    def _write(self, text: str) -> None:
        try:
            os.write(2, text.encode(sys.stderr.encoding or "utf-8", "replace"))
        except OSError:
            return


def _fitted(what: str, seconds: float) -> str:
    """One line of the terminal, the last column free: a line that is full would wrap."""
    from rich.cells import cell_len, set_cell_size

    spent = f" ... {seconds:.0f} s" if seconds < 100 else f" ... {seconds / 60:.0f} min"
    try:
        room = (os.get_terminal_size(2).columns or 80) - 1
    except OSError:
        room = 79
    shown = "".join(c if c.isprintable() else "?" for c in what)
    if cell_len(shown + spent) <= room:
        return shown + spent
    return set_cell_size(shown, max(1, room - len(spent))) + spent


waiting = Waiting()
