"""The errors that users see, each with its exit status.

Every expected fault is a `CvgeoError`: one line that names what it is about, what is wrong, and what to do. The
program prints that line and leaves with `status`; anything else that escapes is a defect and shows its traceback.
"""

from __future__ import annotations

import errno
from enum import IntEnum
from os import PathLike


class ExitStatus(IntEnum):
    """Exit statuses of every command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INPUT = 3
    MISMATCH = 4
    PARTIAL = 5
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143


class CvgeoError(Exception):
    """Something failed in a way that is explained in one line: `path: fault; mend`."""

    status = ExitStatus.FAILED

    def __init__(self, fault: str, *, path: str | PathLike[str] | None = None, mend: str | None = None):
        super().__init__(fault)
        self.fault = fault
        self.path = None if path is None else str(path)
        self.mend = mend

    def __str__(self) -> str:
        # Texts of libraries may span lines; a path is left as it is, its spaces belong to the name.
        subject = "" if self.path is None else f"{self.path}: "
        mend = "" if self.mend is None else f"; {self.mend}"
        return subject + " ".join(f"{self.fault}{mend}".split())


class CvgeoWarning(UserWarning):
    """Something is amiss that does not stop the work; the program says it in one line on stderr."""


class UsageError(CvgeoError):
    """The call itself makes no sense (status 2)."""

    status = ExitStatus.USAGE


class InputError(CvgeoError):
    """An input is bad or missing (status 3)."""

    status = ExitStatus.INPUT


class UnfetchedError(InputError):
    """An input cannot be had from the network; what was done until then is kept, and the same call goes on."""


class MismatchError(CvgeoError):
    """Model, convention, store or fingerprint do not fit together (status 4)."""

    status = ExitStatus.MISMATCH


class OutputError(CvgeoError):
    """An output could not be written (status 1)."""


class NoRoomError(OutputError):
    """An output could not be written where nothing else can be either: the disk is full, or may only be read."""


def explain_os_error(error: OSError, path: str | PathLike[str], doing: str = "write") -> CvgeoError:
    """The one-line error for a failed file operation; `doing` is the verb (`read` or `write`)."""
    mends = {
        errno.ENOSPC: "free some space or name another folder",
        errno.EDQUOT: "free some of your quota or name another folder",
        errno.EACCES: "check the permissions or name another place",
        errno.EPERM: "check the permissions or name another place",
        errno.EROFS: "name another place",
        errno.ENOENT: "check the spelling" if doing == "read" else "create the folder first",
        errno.EISDIR: "name a file, not a folder",
        errno.EEXIST: "a file stands where a folder is needed: name another place",
        errno.ENOTDIR: "a file stands where a folder is needed: name another place",
    }
    nowhere = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    kind = InputError if doing == "read" else NoRoomError if nowhere else OutputError
    reason = (error.strerror or str(error)).lower()
    return kind(f"cannot {doing}: {reason}", path=path, mend=mends.get(error.errno or 0))
