"""The program: its table of commands, its frame, and what an error looks like."""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import ParameterInfo

from cvgeo import __version__
from cvgeo.cli import log, stopping
from cvgeo.cli.console import ConsoleReporter, clean, say
from cvgeo.cli.pages import GENERAL, HELP, Page, page_of, show_help, usage_line
from cvgeo.cli.stdin import check_streams
from cvgeo.cli.waiting import waiting
from cvgeo.errors import CvgeoError, CvgeoWarning, ExitStatus, UsageError, explain_os_error
from cvgeo.memory import keep_freed_memory

# name, module and function of each command; a name of two words is a command of a group.
COMMANDS: tuple[tuple[str, str, str], ...] = (
    ("polar", "polar", "polar"),
    ("build-dataset pairs", "build_dataset_pairs", "pairs"),
    ("build-dataset tiles", "build_dataset_tiles", "tiles"),
    ("build-dataset area", "build_dataset_area", "area"),
    ("build-dataset world", "build_dataset_world", "world"),
    ("build-dataset check", "build_dataset_check", "check"),
    ("train", "train", "train"),
    ("embed", "embed", "embed"),
    ("index", "index", "index"),
    ("search", "search", "search"),
    ("evaluate", "evaluate", "evaluate"),
    ("ablate", "ablate", "ablate"),
    ("heatmap", "heatmap", "heatmap"),
    ("models", "models", "models"),
    ("info", "info", "info"),
    ("config", "config", "config"),
    ("demo", "demo", "demo"),
)
GROUPS = {
    "build-dataset": "Make a data set: a procedural world, pairs of real or drawn panoramas, tiles over an area; check."
}
TEXTS = ("--name", "--attribution")  # options that may be empty
LARGEST = 2**63 - 1  # of whole numbers, as libraries take them
EXAMPLES = [("cvgeo demo", "the whole pipeline on a small made world")]

_commands: dict[str, tuple[Callable[..., Any], ModuleType]] = {}
_groups: dict[str, typer.Typer] = {}

Quiet = Annotated[bool, typer.Option("--quiet", "-q", rich_help_panel=GENERAL, help="Only warnings and errors.")]
Debug = Annotated[
    bool, typer.Option("--debug", envvar="CVGEO_DEBUG", rich_help_panel=GENERAL, help="Show tracebacks of errors.")
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        envvar="CVGEO_LOG_FILE",
        metavar="FILE",
        rich_help_panel=GENERAL,
        help="Append settings, remarks, failures and the exit status as JSON Lines.",
    ),
]


def _page(name: str) -> Page:
    """The page of a command, a group, or (with an empty name) the program."""
    if name in _commands:
        command, module = _commands[name]
        return page_of(name, _signed(command), module)
    inner = dict.fromkeys(" ".join(command.split()[: len(name.split()) + 1]) for command in _commands)
    children = tuple(_page(child) for child in inner if child.startswith(f"{name} ".lstrip()))
    if name:
        return Page(name, GROUPS[name], (HELP,), children)
    page = page_of("", _root, sys.modules[__name__])
    return Page("", page.text, page.parameters, children, page.examples)


def program_page() -> Page:
    """The page of the whole program, with those of all commands in it."""
    return _page("")


class _Helped:
    """Help and usage lines from the command's page."""

    def format_usage(self, context: typer.Context, formatter: Any) -> None:
        formatter.write(usage_line(_page(_name(context))) + "\n")

    def format_help(self, context: typer.Context, formatter: Any) -> None:
        formatter.write(show_help(_page(_name(context))))


class _Command(_Helped, TyperCommand):
    pass


class _Group(_Helped, TyperGroup):
    pass


def _name(context: typer.Context) -> str:
    words: list[str] = []
    while context.parent is not None:
        words.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(words)


app = typer.Typer(
    name="cvgeo",
    cls=_Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "CVGEO"},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,  # completions/ holds complete files: they answer at once, without starting the program
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"cvgeo {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            allow_from_autoenv=False,  # CVGEO_VERSION is a likely name for something else
            rich_help_panel=GENERAL,
            help="Show the version and leave.",
        ),
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
    log_file: LogFile = None,
) -> None:
    """Find where a street-level picture was taken by matching it to geo-tagged aerial images."""
    context.obj = {"quiet": quiet, "debug": debug, "log_file": log_file}
    # Help is there also with a settings file that is wrong.
    if not {"-h", "--help"} & set(sys.argv):
        from cvgeo.cli.settings import default_map

        with _explained(debug):
            context.default_map = default_map(program_page())


def _leave(status: ExitStatus) -> None:
    raise typer.Exit(int(status))


@contextmanager
def _explained(debug: bool) -> Iterator[None]:
    """Turn expected errors into one line on stderr and an exit status."""
    try:
        yield
    except BrokenPipeError:
        stopping.stop_writing_stdout()
        _leave(ExitStatus.READER_GONE)
    except (CvgeoError, OSError, MemoryError) as error:
        if stopping.stopped_status() is not None or (isinstance(error, OSError) and error.errno is None):
            raise
        if debug:
            raise
        explained = _explain(error)
        log.write("error", str(explained))
        say(f"cvgeo: {explained}")
        _leave(explained.status)


def _explain(error: CvgeoError | OSError | MemoryError) -> CvgeoError:
    if isinstance(error, CvgeoError):
        return error
    if isinstance(error, MemoryError):
        return CvgeoError("out of memory", mend="take smaller batches, fewer --jobs or smaller pictures")
    # Pipelines explain the faults that they expect; this is for those of libraries, which name the file at most.
    return explain_os_error(error, error.filename or "output", "read" if error.filename else "write")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        stopping.stop_writing_stdout()
        raise explain_os_error(error, "standard output") from error


def _show_warning(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
    """What libraries warn of as Python shows it; our own warnings in one line."""
    if issubclass(category, CvgeoWarning):
        log.write("warning", str(message))
        say(f"cvgeo: warning: {message}")
    else:
        _python_warning(message, category, *place, **more)


_python_warning = warnings.showwarning


def _conclude(reporter: ConsoleReporter, done: int | None) -> None:
    if not reporter.failures:
        return
    failed = len(reporter.failures)
    if done != 0 or failed > 1:  # one picture that failed is told of already
        reporter.note(f"{failed} failed" if done is None else f"{done} done, {failed} failed")
    _leave(ExitStatus.INPUT if done == 0 else ExitStatus.PARTIAL)


def _signed(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with the signature that Typer reads: without our reporter, with what every command has."""
    shared = {"quiet": (Quiet, False), "debug": (Debug, False), "log_file": (LogFile, None)}
    parameters = [p for name, p in inspect.signature(command, eval_str=True).parameters.items() if name != "reporter"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    for info in (note for p in parameters for note in get_args(p.annotation) if isinstance(note, ParameterInfo)):
        # What may not be read is an input at fault, not the call: told where it is read.
        info.readable = False
    added = [inspect.Parameter(name, keyword, default=usual, annotation=kind) for name, (kind, usual) in shared.items()]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    everything = [context, *(p.replace(kind=keyword) for p in parameters), *added]

    @functools.wraps(command)
    def signed(*args: Any, **options: Any) -> Any:
        return command(*args, **options)

    signed.__signature__ = inspect.Signature(everything)  # type: ignore[attr-defined]
    signed.__annotations__ = {p.name: p.annotation for p in everything}
    return signed


def _require_sense(words: list[str], options: dict[str, Any]) -> None:
    """Raise UsageError for what no parser minds: words that are empty, numbers such as `nan` and `inf`."""
    for before, word in pairwise(["", *words]):
        name, equals, value = word.partition("=")
        assigned = name.startswith("--") and equals and not value
        if (assigned or not word) and (name or before) not in TEXTS:
            # As a path it would be the folder that one is in.
            raise UsageError("a word of the call is empty", mend="is a variable of the shell not set?")
    for name, value in options.items():
        finite = not isinstance(value, float) or math.isfinite(value)
        if not finite or (isinstance(value, int) and abs(value) > LARGEST):
            raise UsageError(f"--{name.replace('_', '-')} {value} is no number that can be meant", mend="give another")


def guarded(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command whose expected errors become one line on stderr and an exit status.

    The command takes a `reporter` keyword and returns how many items it did; with failures that makes status 5, or 3
    where nothing was done. A command that returns None is done. STDIN and STDOUT of its module are the parameters for
    which `-` may stand; for any other file it is refused.
    """
    signed = _signed(command)

    @functools.wraps(signed)
    def run_command(context: typer.Context, quiet: bool, debug: bool, log_file: Path | None, **options: Any) -> None:
        # From here on files are open and a reader that leaves is told of by an exception, so that they are closed.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        warnings.showwarning = _show_warning
        reporter = ConsoleReporter(quiet or context.obj["quiet"])
        if not reporter.quiet:
            waiting.start()
        with _explained(debug or context.obj["debug"]):
            module = sys.modules[command.__module__]
            streams = getattr(module, "STDIN", ()), getattr(module, "STDOUT", ())
            check_streams(_page(_name(context)), {**options, "log_file": log_file}, *streams)
            if logged := log_file or context.obj["log_file"]:
                log.start(logged, _name(context), clean(options), lambda text: say(f"cvgeo: {text}"))
            _require_sense(sys.argv[1:], options)
            done = signed(reporter=reporter, **options)
            _flush()
            _conclude(reporter, done)

    return run_command


def add(name: str, command: Callable[..., Any], module: ModuleType) -> None:
    """Put a command into the program under a name (`group command` in a group); its module holds the examples."""
    *group, last = name.split()
    parent = app
    for word in group:
        if word not in _groups:
            _groups[word] = typer.Typer(name=word, cls=_Group, help=GROUPS[word], no_args_is_help=True)
            app.add_typer(_groups[word])
        parent = _groups[word]
    _commands[name] = (command, module)
    parent.command(last, cls=_Command, no_args_is_help=False)(guarded(command))


def _add_commands() -> None:
    for name, path, function in COMMANDS:
        module = importlib.import_module(f"cvgeo.cli.{path}")
        add(name, getattr(module, function), module)


_add_commands()


def _asked_for(words: list[str]) -> str | None:
    """The name of the command whose help is asked for, None where help is not or the command is unknown."""
    name = ""
    for word in words:
        if word in ("-h", "--help"):
            return name
        if word == "--":
            return None
        longer = f"{name} {word}".strip()
        if longer in _commands or longer in _groups:
            name = longer
        elif not word.startswith("-") and name not in _commands:
            return None
    return None


def run() -> None:
    """Entry point of `cvgeo` and `python -m cvgeo`."""
    stopping.prepare()
    try:
        _run()
    except KeyboardInterrupt:  # while the program was ending already
        status = stopping.stopped_status()
        if status is None:
            raise
        raise SystemExit(int(status)) from None


def _run() -> None:
    ended = ExitStatus.FAILED
    try:
        # Help needs no parser, and Typer's takes longer to start than all else together.
        helped = _asked_for(sys.argv[1:])
        if helped is not None:
            print(show_help(_page(helped)))
            return
        keep_freed_memory()
        app(prog_name="cvgeo")
    except BaseException as left:
        # A signal in the middle of a library comes out as that library's own error.
        status = stopping.stopped_status()
        if status is None:
            ended = left.code if isinstance(left, SystemExit) and isinstance(left.code, int) else ended
            raise
        ended = status
        raise SystemExit(int(status)) from None
    finally:
        waiting.stop()
        log.end(int(ended))
        stopping.finish()
