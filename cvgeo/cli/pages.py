"""What a command is, told once: help texts, man pages, completions and settings files are all made from these pages.

A page is read from a command's signature (Typer's Annotated style), its docstring and its module's EXAMPLES.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

GENERAL = "General"
# What completion offers for a parameter of this key or, before that, metavar: lists of words, and kinds of files.
OFFERED = {
    "NAME_OR_PATH": ("datasets", "folder"),
    "DATASET": ("datasets", "folder"),
    "MODEL": ("models", "file"),
    "STORE": ("store",),
    "IMAGERY": ("file",),
    "DIR": ("folder",),
    "RUN": ("folder",),
    "URI": ("file",),
    "SOURCE": ("weights", "file"),
    "N|FILE.toml": ("tables", "file"),
    "model": ("models",),
    "recipe": ("recipes",),
    "pattern": ("models",),
    "command": ("commands",),
    "device": ("devices",),
    "files": ("datasets", "file"),
}
METAVARS = {int: "N", float: "X", Path: "PATH"}


@dataclass(frozen=True)
class Parameter:
    """One argument or option, as users see it."""

    key: str  # the Python parameter
    names: tuple[str, ...]  # as typed, short before long; of an argument only its metavar
    negations: tuple[str, ...]
    kind: type
    is_argument: bool
    metavar: str  # empty for flags
    help: str
    default: str
    envvar: str
    choices: tuple[str, ...]
    takes: str  # flag | value | file | folder | path
    panel: str
    required: bool
    repeatable: bool
    bounds: tuple[float | None, float | None]

    @property
    def setting(self) -> str:
        """Its key in a settings file: the long name without dashes."""
        return max(self.names, key=len).lstrip("-")

    @property
    def offered(self) -> tuple[str, ...]:
        """Names of word lists (`datasets`, `models` ...) and of kinds of files that may stand here; empty for flags."""
        if self.choices or self.takes == "flag":
            return ()
        if self.metavar not in OFFERED and self.takes in ("file", "folder", "path") and self.key not in OFFERED:
            return ("folder" if self.takes == "folder" else "file",)
        return OFFERED.get(self.metavar, OFFERED.get(self.key, ()))

    @property
    def remarks(self) -> list[str]:
        """What is said after its help: choices, default, variable."""
        default = [f"default: {self.default}"] if self.default else []
        variable = [f"env: {self.envvar}"] if self.envvar else []
        required = ["required"] if self.required and not self.is_argument else []
        return [*default, *variable, *required]


@dataclass(frozen=True)
class Page:
    """One command, or the program or a group when it has `commands`."""

    name: str  # "" for the program itself
    text: str  # the docstring
    parameters: tuple[Parameter, ...] = ()
    commands: tuple[Page, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    exit_status: tuple[tuple[str, str], ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    panels: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        panels = dict.fromkeys(one.panel for one in self.options)
        object.__setattr__(self, "panels", tuple(sorted(panels, key=lambda panel: (panel == GENERAL, bool(panel)))))

    @property
    def title(self) -> str:
        """What is typed: `cvgeo build-dataset world`."""
        return f"cvgeo {self.name}".strip()

    @property
    def arguments(self) -> list[Parameter]:
        """Its positional parameters, in order."""
        return [one for one in self.parameters if one.is_argument]

    @property
    def options(self) -> list[Parameter]:
        """Its options, in order."""
        return [one for one in self.parameters if not one.is_argument]

    @property
    def paragraphs(self) -> list[str]:
        """The docstring's paragraphs, each on one line."""
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", inspect.cleandoc(self.text)) if part.strip()]

    @property
    def summary(self) -> str:
        """The first sentence."""
        first = self.paragraphs[0] if self.paragraphs else ""
        return re.split(r"(?<=\.)\s", first)[0]

    @property
    def usage(self) -> str:
        """The words after the command's name."""
        words = ["[OPTIONS]"]
        for one in self.arguments:
            word = one.metavar + ("..." if one.repeatable and not one.metavar.endswith("...") else "")
            words.append(word if one.required else f"[{word}]")
        return " ".join([*words, "COMMAND ..."] if self.commands else words)


def _plain_type(annotation: Any) -> tuple[Any, bool]:
    """The type inside Optional and list, and whether it was a list."""
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(part for part in get_args(annotation) if part is not type(None))
    if get_origin(annotation) is list:
        return _plain_type(get_args(annotation)[0])[0], True
    return annotation, False


def _choices(kind: Any, info: ParameterInfo) -> tuple[str, ...]:
    if get_origin(kind) is Literal:
        return tuple(str(value) for value in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return tuple(str(member.value) for member in kind)
    # A completion function without parameters lists fixed words, such as the names of presets.
    if info.autocompletion is not None and not inspect.signature(info.autocompletion).parameters:
        return tuple(word if isinstance(word, str) else word[0] for word in info.autocompletion())
    return ()


def _names(key: str, kind: Any, info: ParameterInfo) -> tuple[tuple[str, ...], tuple[str, ...]]:
    # Typer takes the first name as a default until it sees the Annotated around it.
    declared = [name for name in (info.default, *(info.param_decls or ())) if str(name).startswith("-")]
    if not declared:
        long = key.replace("_", "-")
        return (f"--{long}",), ((f"--no-{long}",) if kind is bool else ())
    pairs = [name.split("/", 1) for name in declared]
    names = sorted((pair[0].strip() for pair in pairs), key=lambda name: (name.startswith("--"), name))
    return tuple(names), tuple(pair[1].strip() for pair in pairs if len(pair) > 1)


def _default(value: Any, info: ParameterInfo) -> str:
    if isinstance(info.show_default, str):
        return info.show_default
    if not info.show_default or value is inspect.Parameter.empty or value is ... or value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(one) for one in value)
    return str(value.value if isinstance(value, Enum) else value)


def _metavar(key: str, kind: Any, info: ParameterInfo, choices: tuple[str, ...]) -> str:
    if info.metavar:
        return info.metavar.removesuffix("...").strip("[]")
    if kind is bool:
        return ""
    listed = "|".join(choices)
    if choices and len(listed) <= 20 and not info.autocompletion:
        return listed
    if kind is Path and not isinstance(info, ArgumentInfo):
        return "FILE" if not info.dir_okay else "DIR" if not info.file_okay else "PATH"
    if isinstance(info, ArgumentInfo):
        return key.upper()
    return METAVARS.get(kind) or key.split("_")[-1].upper()


def _takes(kind: Any, info: ParameterInfo) -> str:
    if kind is bool:
        return "flag"
    if kind is not Path and not isinstance(info, ArgumentInfo):
        return "value"
    return "file" if not info.dir_okay else "folder" if not info.file_okay else "path"


def _parameter(signed: inspect.Parameter) -> Parameter | None:
    if get_origin(signed.annotation) is not Annotated:
        return None
    annotation, *notes = get_args(signed.annotation)
    info = next((note for note in notes if isinstance(note, ArgumentInfo | OptionInfo)), None)
    if info is None or info.hidden:
        return None
    kind, repeatable = _plain_type(annotation)
    is_argument = isinstance(info, ArgumentInfo)
    choices = _choices(kind, info)
    metavar = _metavar(signed.name, kind, info, choices)
    names, negations = ((metavar,), ()) if is_argument else _names(signed.name, kind, info)
    text = " ".join((info.help or "").split())
    if choices and metavar != "|".join(choices) and not all(choice in text for choice in choices):
        text = f"{text} One of {', '.join(choices)}.".strip()
    return Parameter(
        key=signed.name,
        names=names,
        negations=negations,
        kind=kind,
        is_argument=is_argument,
        metavar=metavar,
        help=text,
        default=_default(signed.default, info),
        envvar=info.envvar if isinstance(info.envvar, str) else ", ".join(info.envvar or ()),
        choices=choices,
        takes=_takes(kind, info),
        panel=info.rich_help_panel if isinstance(info.rich_help_panel, str) else "",
        required=signed.default is inspect.Parameter.empty,
        repeatable=repeatable,
        bounds=(info.min, info.max),
    )


HELP = Parameter(
    key="help",
    names=("-h", "--help"),
    negations=(),
    kind=bool,
    is_argument=False,
    metavar="",
    help="Show this help and leave.",
    default="",
    envvar="",
    choices=(),
    takes="flag",
    panel=GENERAL,
    required=False,
    repeatable=False,
    bounds=(None, None),
)
LISTS = ("examples", "exit_status", "files", "environment")


def page_of(name: str, command: Callable[..., Any], module: types.ModuleType | None = None) -> Page:
    """The page of a command: its signature and docstring, with the lists that its module gives."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [_parameter(one) for one in signature.parameters.values()]
    lists = {
        key: tuple(getattr(module, key.upper(), ())) for key in ("examples", "exit_status", "files", "environment")
    }
    return Page(name, command.__doc__ or "", (*(one for one in parameters if one is not None), HELP), **lists)


def _signature_of(parameter: Parameter) -> str:
    if parameter.is_argument:
        return parameter.metavar
    indent = "" if any(not name.startswith("--") for name in parameter.names) else "    "
    names = ", ".join([*parameter.names, *parameter.negations])
    return f"{indent}{names} {parameter.metavar}".rstrip()


def _rows(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    rows = list(rows)
    room = min(max((len(left) for left, _ in rows), default=0), max(12, min(28, width // 3 + 2)))
    lines: list[str] = []
    for left, right in rows:
        wrapped = wrap(right, max(20, width - room - 4), break_on_hyphens=False) or [""]
        if len(left) > room:
            lines.append(f"  {left}")
            left = ""
        lines += [f"  {left if number == 0 else '':<{room}}  {line}".rstrip() for number, line in enumerate(wrapped)]
    return lines


def _helped(parameter: Parameter) -> str:
    remarks = f" [{'; '.join(parameter.remarks)}]" if parameter.remarks else ""
    return parameter.help + remarks


def _examples(page: Page, width: int) -> list[str]:
    lines: list[str] = []
    for line, text in page.examples:
        lines += ["", *(f"  {part}" for part in wrap(f"# {text}", width - 4, subsequent_indent="# "))]
        lines += [f"  $ {line}"]
    return lines[1:]


def usage_line(page: Page, width: int = 79) -> str:
    """`Usage: cvgeo ...`, wrapped."""
    words = f"Usage: {page.title} {page.usage}"
    return "\n".join(wrap(words, width, subsequent_indent=" " * 8, break_on_hyphens=False))


def _command_rows(page: Page) -> list[tuple[str, str]]:
    """Every command below, also those of groups, by the words that follow this page's."""
    leaves = [one for child in page.commands for one in (child.commands or (child,))]
    return [(one.name.removeprefix(page.name).strip(), one.summary) for one in leaves]


def help_text(page: Page, width: int, bold: Callable[[str], str] = str) -> str:
    """The help of a command as plain text of a width; `bold` marks headings."""
    usage = usage_line(page, width)
    lines = [bold("Usage:") + usage.removeprefix("Usage:")]
    for paragraph in page.paragraphs:
        lines += ["", *(f"  {line}" for line in wrap(paragraph, width - 2, break_on_hyphens=False))]
    sections = [
        ("Commands", _rows(_command_rows(page), width)),
        ("Arguments", _rows([(_signature_of(one), _helped(one)) for one in page.arguments], width)),
    ]
    for panel in page.panels:
        chosen = [(_signature_of(one), _helped(one)) for one in page.options if one.panel == panel]
        sections.append(
            (panel if panel.endswith(" options") or not panel else f"{panel} options", _rows(chosen, width))
        )
    sections.append(("Examples", _examples(page, width)))
    for heading, body in sections:
        lines += ["", bold(f"{heading or 'Options'}:"), *body] if body else []
    return "\n".join(lines)


def show_help(page: Page) -> str:
    """The help for where stdout goes: at most 80 columns, headings bold on a terminal that can."""
    width = max(40, min(shutil.get_terminal_size().columns, 80)) - 1
    dressed = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")
    return help_text(page, width, (lambda text: f"\x1b[1m{text}\x1b[0m") if dressed else str)
