"""Signals and streams: how the program stops, and what it stands on when streams are closed or names are not UTF-8."""

from __future__ import annotations

import atexit
import codecs
import os
import signal
import sys
from types import FrameType

from cvgeo.errors import ExitStatus

_stopped_by: list[int] = []
_STATUS = {signal.SIGINT: ExitStatus.INTERRUPTED, signal.SIGTERM: ExitStatus.TERMINATED}


def stopped_status() -> ExitStatus | None:
    """The exit status that a signal asked for, None while none came."""
    return _STATUS[signal.Signals(_stopped_by[0])] if _stopped_by else None


def _stop_workers(hard: bool) -> None:
    # Only if a pipeline started some: importing multiprocessing here would cost every call its import.
    multiprocessing = sys.modules.get("multiprocessing")
    for child in multiprocessing.active_children() if multiprocessing else ():
        child.kill() if hard else child.terminate()


def _tell(text: str) -> None:
    # A handler may run in the middle of a print: it writes past Python's buffers. The escape wipes a progress bar.
    start = "\r\x1b[K" if os.isatty(2) and os.environ.get("TERM") != "dumb" else ""
    try:
        os.write(2, f"{start}cvgeo: {text}\n".encode())
    except OSError:
        return


def _handle(number: int, frame: FrameType | None) -> None:
    status = _STATUS[signal.Signals(number)]
    if _stopped_by:
        _stop_workers(hard=True)
        os._exit(status)
    signal.pthread_sigmask(signal.SIG_BLOCK, _STATUS)  # one that follows at once waits until the first is told
    _stopped_by.append(number)
    _tell("interrupted" if status is ExitStatus.INTERRUPTED else "terminated")
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STATUS)
    _stop_workers(hard=False)
    _unwind()


def _unwind(*_: object) -> None:
    status = stopped_status()
    raise KeyboardInterrupt if status is ExitStatus.INTERRUPTED else SystemExit(int(status or 0))


def _not_lost(unraisable: sys.UnraisableHookArgs) -> None:
    # A handler that runs inside a destructor or a weak reference's callback raises in vain: raise again a little later.
    if _stopped_by and issubclass(unraisable.exc_type, KeyboardInterrupt | SystemExit):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(unraisable)


def _leave_to_parent() -> None:
    # Ctrl-C reaches every process of the terminal: the parent tells of it and ends the workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _open_closed_streams() -> None:
    # With `>&-` the next file opened would become stdout and take its data; printing to None goes to stdout.
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            stream = open(number, mode, encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)


def _written_anyhow(error: UnicodeError) -> tuple[bytes, int]:
    """Bytes of a file name as they are; what else the locale has no letter for is escaped, a table's rule plain."""
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    written = (
        one.encode("ascii", "surrogateescape" if "\udc80" <= one <= "\udcff" else "backslashreplace") for one in letters
    )
    return b"".join(written).replace(b"\\u2500", b"-"), error.end


def _be_done() -> None:
    # All is done. Python gives its signals their default action back before it is gone: to be killed would belie that.
    for number in _STATUS:
        signal.signal(number, signal.SIG_IGN)


def stop_writing_stdout() -> None:
    """Point stdout at nothing: the interpreter flushes it once more at its end."""
    handle = os.open(os.devnull, os.O_WRONLY)
    os.dup2(handle, 1)
    os.close(handle)


def prepare() -> None:
    """Open closed streams, let any file name pass through stdin and stdout, install the handlers."""
    _open_closed_streams()
    codecs.register_error("written-anyhow", _written_anyhow)
    sys.stdin.reconfigure(errors="surrogateescape")
    sys.stdout.reconfigure(errors="written-anyhow")
    for number in _STATUS:
        # A shell starts background jobs with SIGINT ignored, nohup and the like rely on it too.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    signal.signal(signal.SIGALRM, _unwind)
    atexit.register(_be_done)
    sys.unraisablehook = _not_lost
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.register_at_fork(after_in_child=_leave_to_parent)


def finish() -> None:
    """The program is at its end: what would still raise by the clock comes too late.

    Python gives its signals their default action back before it is gone, and that of the clock is to kill.
    """
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
