"""How pipelines tell of their progress: they get a `Reporter`, and only `cvgeo.cli` has one that prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Reporter:
    """Receives progress, remarks and failed items. This one is silent and only collects; `cvgeo.cli` shows them."""

    def __init__(self) -> None:
        self.failures: list[tuple[str, str]] = []

    def track(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """Pass `items` through while showing how far along `what` is."""
        yield from items

    def now(self, what: str | None) -> None:
        """Name what is done from here on and cannot be counted; None where another program speaks."""

    def note(self, text: str) -> None:
        """One line worth knowing (shown unless `--quiet`)."""

    def warn(self, text: str) -> None:
        """One line that the user should act on."""

    def warn_if(self, text: str | None) -> None:
        """The same, where there is something to say."""
        if text is not None:
            self.warn(text)

    def fail(self, item: str, reason: str) -> None:
        """One item of many could not be done; the others go on. The command ends with status 5 (3 if none was done)."""
        self.failures.append((item, reason))


class FailuresLater(Reporter):
    """Passes all on to another reporter but what failed, which whoever tries it again will tell."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self.track, self.now, self.note, self.warn = reporter.track, reporter.now, reporter.note, reporter.warn
