"""Completion files for bash, zsh and fish from the program's pages: whole, so that TAB needs no program to start."""

from __future__ import annotations

from collections.abc import Iterator

from cvgeo.cli.pages import Page, Parameter
from cvgeo.config.load import preset_names

HEADER = "# Completion for cvgeo, generated from the program by: python -m cvgeo.cli._generate"


def _all(page: Page) -> Iterator[Page]:
    yield page
    for child in page.commands:
        yield from _all(child)


def _words(parameter: Parameter) -> list[str]:
    return [*parameter.names, *parameter.negations]


def _last(page: Page) -> str:
    return page.name.split()[-1]


def word_lists(page: Page) -> dict[str, list[str]]:
    """The words of each list that completion offers and that the program itself knows; data sets lie on the disk."""
    commands = dict.fromkeys(name for one in _all(page) if one.name for name in one.name.split())
    return {
        "models": preset_names("models"),
        "recipes": preset_names("recipes"),
        "weights": ["imagenet", "lite", "none"],
        "tables": ["1", "2", "3", "4", "5", "small"],
        "devices": ["auto", "cpu", "cuda"],
        "commands": list(commands),
    }


def _parted(parameter: Parameter) -> tuple[str, str]:
    """The word list and the kind of files that may stand for a parameter, each empty where there is none."""
    files = next((one for one in parameter.offered if one in ("file", "folder", "store")), "")
    return next((one for one in parameter.offered if one != files), ""), files


def _bash_offer(parameter: Parameter, lists: dict[str, list[str]]) -> str:
    names, files = _parted(parameter)
    words = " ".join(lists.get(names, [names] if names else []))
    return f'names="{words}" files="{files}"'


_BASH_OFFER = r"""_cvgeo_datasets() {
    local folder
    for folder in "${CVGEO_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/cvgeo}"/*/; do
        folder="${folder%/}" folder="${folder##*/}"
        [[ "$folder" == "*" || "$folder" != "$current"* ]] || printf '%s\n' "$folder"
    done
}

_cvgeo_offered() {
    if [ "$1" = datasets ]; then
        _cvgeo_datasets
    else
        compgen -W "$1" -- "$current"
    fi
    case "$2" in
        file) compgen -f -- "$current" ;;
        folder) compgen -d -- "$current" ;;
        store) compgen -f -X '!*.h5' -- "$current"; compgen -d -- "$current" ;;
    esac
}

_cvgeo_offer() {
    # A data set and a folder may have the same name.
    mapfile -t COMPREPLY < <(_cvgeo_offered "$1" "$2" | sort -u)
    [ -n "$2" ] && compopt -o filenames 2>/dev/null
    [ "$2" = file ] || compopt +o default 2>/dev/null
}
"""


def bash(page: Page) -> str:
    """The file for bash; a value that is a file falls back to readline's own completion."""
    paths, values, words, lists = [], [], [], word_lists(page)
    for one in _all(page):
        parent = one.name.rpartition(" ")[0]
        if one.name:
            paths.append(f'            "{parent}/{_last(one)}") command="{one.name}" ;;')
        for option in one.options:
            cases = "|".join(f'"{one.name}/{name}"' for name in option.names)
            if option.choices:
                values.append(f'        {cases}) choices="{" ".join(option.choices)}" ;;')
            elif option.offered:
                values.append(
                    f'        {cases}) {_bash_offer(option, lists)}; _cvgeo_offer "$names" "$files"; return ;;'
                )
            elif option.takes != "flag":
                values.append(f"        {cases}) compopt +o default 2>/dev/null; return ;;")
        options = " ".join(word for option in one.options for word in _words(option))
        below = " ".join(_last(child) for child in one.commands)
        offer = next((f" {_bash_offer(argument, lists)}" for argument in one.arguments), "")
        words.append(f'        "{one.name}") options="{options}" commands="{below}"{offer} ;;')
    return "\n".join([
        HEADER,
        "",
        *_BASH_OFFER.splitlines(),
        "",
        "_cvgeo_completion() {",
        '    local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD - 1]}"',
        '    local command="" options="" commands="" choices="" names="" files="" index',
        "    COMPREPLY=()",
        "    for ((index = 1; index < COMP_CWORD; index++)); do",
        '        case "$command/${COMP_WORDS[index]}" in',
        *paths,
        "        esac",
        "    done",
        "    # Readline splits --option=value at the sign.",
        '    [ "$current" = "=" ] && current=""',
        '    [ "$previous" = "=" ] && previous="${COMP_WORDS[COMP_CWORD - 2]}"',
        '    case "$command/$previous" in',
        *values,
        "    esac",
        '    case "$command" in',
        *words,
        "    esac",
        '    if [ -n "$choices" ]; then',
        '        COMPREPLY=($(compgen -W "$choices" -- "$current"))',
        '    elif [[ "$current" == -* ]]; then',
        '        COMPREPLY=($(compgen -W "$options" -- "$current"))',
        '    elif [ -n "$commands" ]; then',
        '        COMPREPLY=($(compgen -W "$commands" -- "$current"))',
        '    elif [ -n "$names$files" ]; then',
        '        _cvgeo_offer "$names" "$files"',
        "    fi",
        "}",
        "",
        "complete -o default -F _cvgeo_completion cvgeo",
        "",
    ])  # fmt: skip


def _zsh_quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:").replace("'", "'\\''")


ZSH_FILES = {"": " ", "file": "_files", "folder": "_files -/", "store": '_files -g "*.h5"'}


def _zsh_offers(page: Page) -> list[str]:
    """A function for each pair of a word list and a kind of files that some parameter offers."""
    wanted = sorted({_parted(one) for command in _all(page) for one in command.parameters if _parted(one)[0]})
    lines = [
        "_cvgeo_datasets() {",
        "    local -a found=(${CVGEO_DATA:-${XDG_DATA_HOME:-$HOME/.local/share}/cvgeo}/*(N-/:t))",
        "    _describe 'data set' found",
        "}",
        "",
    ]
    for names, files in wanted:
        words = "_cvgeo_datasets" if names == "datasets" else f"({' '.join(word_lists(page)[names])})"
        offers = [f"'{names}:{names}:{words}'", *([f"'files:file:{ZSH_FILES[files]}'"] if files else [])]
        function = "_" + "_".join(filter(None, ("cvgeo", "offer", names, files)))
        lines += [f"{function}() {{", f"    _alternative {' '.join(offers)}", "}", ""]
    return lines


def _zsh_action(parameter: Parameter) -> str:
    if parameter.choices:
        return f"({' '.join(parameter.choices)})"
    names, files = _parted(parameter)
    if names:
        return "_" + "_".join(filter(None, ("cvgeo", "offer", names, files)))
    return ZSH_FILES[files]


def _zsh_option(parameter: Parameter) -> Iterator[str]:
    value = f":{_zsh_quoted(parameter.metavar)}:{_zsh_action(parameter)}" if parameter.metavar else ""
    others = "*" if parameter.repeatable else f"({' '.join(_words(parameter))})"
    for name in _words(parameter):
        sign = "=" if value and name.startswith("--") else ""
        yield f"'{others}{name}{sign}[{_zsh_quoted(parameter.help)}]{value}'"


def _zsh_function(page: Page) -> list[str]:
    name = f"_{page.title.replace(' ', '_').replace('-', '_')}"
    specs = [spec for option in page.options for spec in _zsh_option(option)]
    if page.commands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
    else:
        specs += [
            f"'{'*' if one.repeatable else number}:{_zsh_quoted(one.metavar)}:{_zsh_action(one)}'"
            for number, one in enumerate(page.arguments, 1)
        ]
    head = "    _arguments -C -S \\" if page.commands else "    _arguments -S \\"
    lines = [f"{name}() {{", "    local line state", head]
    lines += [f"        {spec} \\" for spec in specs[:-1]] + [f"        {specs[-1]}"]
    if page.commands:
        described = [f"                '{_last(one)}:{_zsh_quoted(one.summary)}'" for one in page.commands]
        inner = [
            f"                {_last(one)}) _{one.title.replace(' ', '_').replace('-', '_')} ;;"
            for one in page.commands
        ]
        lines += [
            "    case $state in",
            "        command)",
            "            local -a commands=(",
            *described,
            "            )",
        ]
        lines += ["            _describe -t commands command commands", "            ;;", "        rest)"]
        lines += ["            case $line[1] in", *inner, "            esac", "            ;;", "    esac"]
    return [*lines, "}", ""]


def zsh(page: Page) -> str:
    """The file for zsh; compinit wants `#compdef` on the first line."""
    functions = [line for one in reversed(list(_all(page))) for line in _zsh_function(one)]
    start = ['if [ "$funcstack[1]" = _cvgeo ]; then', '    _cvgeo "$@"', "else", "    compdef _cvgeo cvgeo", "fi", ""]
    return "\n".join(["#compdef cvgeo", HEADER, "", *_zsh_offers(page), *functions, *start])


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_offer(parameter: Parameter, lists: dict[str, list[str]]) -> str:
    """Flags of `complete` for what may stand for a parameter."""
    names, files = _parted(parameter)
    words = ["(__cvgeo_datasets)"] if names == "datasets" else lists.get(names, [])
    words += {"folder": ["(__fish_complete_directories)"], "store": ["(__fish_complete_suffix .h5)"]}.get(files, [])
    offered = f" -a {_fish_quoted(' '.join(words))}" if words else ""
    return ("-F" if files == "file" else "-f") + offered


def _fish_option(parameter: Parameter, condition: str, lists: dict[str, list[str]]) -> str:
    flags = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in _words(parameter)]
    if parameter.choices:
        flags.append(f"-x -a {_fish_quoted(' '.join(parameter.choices))}")
    elif parameter.takes != "flag":
        flags.append(f"-r {_fish_offer(parameter, lists)}")
    return f"complete -c cvgeo -n {condition} {' '.join(flags)} -d {_fish_quoted(parameter.help)}"


def fish(page: Page) -> str:
    """The file for fish; file names are off only where a command name is wanted."""
    lines = [
        HEADER,
        "",
        "function __cvgeo_words --description 'The words so far that are no options'",
        "    for word in (commandline -opc)[2..-1]",
        "        string match -q -- '-*' $word; or echo $word",
        "    end",
        "end",
        "",
        "function __cvgeo_within --description 'Whether the words so far start with this command'",
        "    set -l words (__cvgeo_words)",
        "    set -l length (count $argv)",
        '    test "$words[1..$length]" = "$argv"',
        "end",
        "",
        "function __cvgeo_at --description 'Whether the words so far are this command'",
        "    set -l words (__cvgeo_words)",
        '    test "$words" = "$argv"',
        "end",
        "",
        "function __cvgeo_datasets --description 'Data sets that have names'",
        "    set -l folder $HOME/.local/share/cvgeo",
        "    set -q XDG_DATA_HOME; and set folder $XDG_DATA_HOME/cvgeo",
        "    set -q CVGEO_DATA; and set folder $CVGEO_DATA",
        "    for one in $folder/*/",
        "        path basename $one",
        "    end",
        "end",
        "",
        "complete -c cvgeo -f",
    ]
    lists = word_lists(page)
    for one in _all(page):
        at = _fish_quoted(f"__cvgeo_at {one.name}".strip())
        for child in one.commands:
            lines.append(f"complete -c cvgeo -n {at} -a {_last(child)} -d {_fish_quoted(child.summary)}")
        condition = at if one.commands else _fish_quoted(f"__cvgeo_within {one.name}")
        lines += [_fish_option(option, condition, lists) for option in one.options]
        lines += [f"complete -c cvgeo -n {condition} {_fish_offer(first, lists)}" for first in one.arguments[:1]]
    return "\n".join([*lines, ""])
