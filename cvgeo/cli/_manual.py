"""Man pages from the program's pages, in the man(7) language."""

from __future__ import annotations

import re

from cvgeo import __version__
from cvgeo.cli.pages import Page, Parameter

RELEASED = "2026-11-23"
LONGER = (
    "cvgeo-ablations",
    "cvgeo-locating",
    "cvgeo-probability",
    "cvgeo-real-streets",
    "cvgeo-scale",
)  # of section 7, by hand
EXIT_STATUS = (
    ("0", "Done."),
    ("1", "Failed."),
    ("2", "The call makes no sense: an unknown option or setting, a value out of range."),
    ("3", "An input is bad or missing."),
    ("4", "Model, convention, store or fingerprint do not fit together."),
    ("5", "Done in part; what failed is listed on stderr."),
    ("130, 143", "Interrupted (SIGINT, SIGTERM)."),
    ("141", "Whoever read the output is gone."),
)
ENVIRONMENT = (
    ("CVGEO_DATA", "Folder in which data sets are looked up by name."),
    ("CVGEO_CACHE", "Folder for what can be made again."),
    ("CVGEO_STATE", "Folder for what is remembered between calls."),
    ("CVGEO_CONFIG", "The user's settings file."),
    ("CVGEO_COMMAND_OPTION", "Any option: CVGEO_TRAIN_EPOCHS is --epochs of cvgeo train. An option given wins."),
    ("NO_COLOR", "Nothing is dressed up when it is set."),
)
FILES = (
    ("./cvgeo.toml", "Settings of a project: long names of options, for every command that has them at the top, "
     "for one command in a table of its name ([train], [build-dataset.world]). Flags and environment win."),
    ("~/.config/cvgeo/config.toml", "The same for a user; the project's file wins."),
)  # fmt: skip


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    text = text.replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"^\.", r"\\&.", text, flags=re.M)


def _tagged(rows: list[tuple[str, str]]) -> list[str]:
    """Tagged paragraphs; the tags come escaped."""
    return [line for tag, text in rows for line in (".TP", tag, _escaped(text))]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _bold(words: str) -> str:
    return f"\\fB{_escaped(words)}\\fR"


def _tag(parameter: Parameter) -> str:
    value = f" \\fI{_escaped(parameter.metavar)}\\fR" if parameter.metavar else ""
    if parameter.is_argument:
        return value.strip() + ("..." if parameter.repeatable else "")
    return ", ".join(_bold(name) + value for name in parameter.names + parameter.negations)


def _text(parameter: Parameter) -> str:
    parts = [
        parameter.help,
        "May be given more than once." if parameter.repeatable and not parameter.is_argument else "",
        f"The default is {parameter.default}." if parameter.default else "",
        f"Environment: {parameter.envvar}." if parameter.envvar else "",
        "Must be given." if parameter.required and not parameter.is_argument else "",
    ]
    return " ".join(part for part in parts if part)


def _options(page: Page) -> list[str]:
    lines: list[str] = []
    for panel in page.panels:
        if len(page.panels) > 1:
            lines.append(f".SS {_escaped(panel or 'Options of this command')}")
        lines += _tagged([(_tag(one), _text(one)) for one in page.options if one.panel == panel])
    return lines


def _examples(page: Page) -> list[str]:
    lines: list[str] = []
    for command, text in page.examples:
        spaced = [".PP"] if lines else []
        lines += [*spaced, _escaped(_sentence(text)), ".PP", ".RS 4", ".nf"]
        lines += [_escaped(command), ".fi", ".RE"]
    return lines


def _file(title: str) -> str:
    return title.replace(" ", "-")


def _see_also(page: Page, names: list[str]) -> list[str]:
    words = page.title.split()
    above = [" ".join(words[:count]) for count in range(1, len(words))]
    related = [*above, *(one.title for one in page.commands if one.commands), *names]
    seen = [(name, 1) for name in dict.fromkeys(related) if name != page.title]
    seen += [] if page.name else [(name, 7) for name in LONGER]
    return [
        f".BR {_escaped(_file(name))} ({section}){',' if number < len(seen) - 1 else ''}"
        for number, (name, section) in enumerate(seen)
    ]


def _leaves(page: Page) -> list[Page]:
    return [one for child in page.commands for one in (_leaves(child) if child.commands else [child])]


def _synopsis(page: Page) -> list[str]:
    words = [f"[\\fI{_escaped(word.strip('[]'))}\\fR]" if "[" in word else word for word in page.usage.split()]
    words = [word if word.startswith("[") or word == "..." else f"\\fI{_escaped(word)}\\fR" for word in words]
    return [f"{_bold(page.title)} {' '.join(words)}"]


def _variables(page: Page) -> list[tuple[str, str]]:
    own = [(one.envvar, f"Default of {max(one.names, key=len)}.") for one in page.options if one.envvar]
    return [*own, *page.environment, *(ENVIRONMENT if not page.name else ENVIRONMENT[:4])]


def _statuses(page: Page) -> list[tuple[str, str]]:
    own = dict(page.exit_status)
    return [(value, _sentence(own.get(value, text))) for value, text in EXIT_STATUS]


def man_page(page: Page, related: list[str]) -> str:
    """One page of section 1."""
    commands = [(_bold(one.title), one.summary) for one in _leaves(page)]
    description = [line for paragraph in page.paragraphs for line in (".PP", _escaped(paragraph))][1:]
    sections = {
        "NAME": [f"{_escaped(_file(page.title))} \\- {_escaped(page.summary.rstrip('.'))}"],
        "SYNOPSIS": _synopsis(page),
        "DESCRIPTION": description,
        "COMMANDS": _tagged(commands),
        "ARGUMENTS": _tagged([(_tag(one), _text(one)) for one in page.arguments]),
        "OPTIONS": _options(page),
        "EXAMPLES": _examples(page),
        "EXIT STATUS": _tagged([(_bold(value), text) for value, text in _statuses(page)]),
        "ENVIRONMENT": _tagged([(_bold(name), _sentence(text)) for name, text in _variables(page)]),
        "FILES": _tagged([(f"\\fI{_escaped(name)}\\fR", _sentence(text)) for name, text in (*page.files, *FILES)]),
        "SEE ALSO": _see_also(page, related),
    }
    lines = [f'.TH "{_escaped(_file(page.title)).upper()}" "1" "{RELEASED}" "cvgeo {__version__}" "cvgeo"']
    lines = [lines[0].replace("\\-", "-")]
    for heading, body in sections.items():
        lines += [f".SH {heading}", *body] if body else []
    return "\n".join(lines) + "\n"


def man_pages(page: Page) -> dict[str, str]:
    """Every man page by file name: the program, its groups, its commands."""
    names = [one.title for one in _leaves(page)]
    groups = [one for one in page.commands if one.commands]
    chosen = [(page, names), *((one, [leaf.title for leaf in _leaves(one)]) for one in groups)]
    chosen += [(one, []) for one in _leaves(page)]
    return {f"{_file(one.title)}.1": man_page(one, related) for one, related in chosen}
