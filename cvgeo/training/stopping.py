"""Signals that wait: a training run stops between two batches, where its state can be saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from cvgeo.report import Reporter

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class DeferredStop:
    """While this context is open, the first SIGINT or SIGTERM is only noted; a second one takes effect at once.

    `leave()` lets a noted signal take effect: whatever handler was there before gets it. Outside the main thread, where
    Python takes no handlers, nothing is deferred.
    """

    def __init__(self, reporter: Reporter):
        self.reporter = reporter
        self.asked: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> DeferredStop:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()
        if kind is None:
            self.leave()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            self.leave()
        self.asked = number
        # The handler may have come in the middle of a print: another thread waits for its turn.
        text = "stopping after this batch; once more to stop at once"
        threading.Thread(target=self.reporter.note, args=(text,), daemon=True).start()

    def leave(self) -> None:
        """Stop now if a signal was noted."""
        if self.asked is not None:
            self._restore()
            number, self.asked = self.asked, None
            signal.raise_signal(number)
