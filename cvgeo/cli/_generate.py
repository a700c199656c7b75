"""Write completions/ and man/ from the program, or `--check` that they are what the program says.

    python -m cvgeo.cli._generate [--check] [DIR]

DIR is the repository (default: the working folder). The files depend on nothing but the program.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cvgeo.cli import _completions, _manual
from cvgeo.cli.app import program_page
from cvgeo.paths import write_text


def generated() -> dict[str, str]:
    """The text of every generated file by its path in the repository."""
    page = program_page()
    files = {
        "completions/cvgeo.bash": _completions.bash(page),
        "completions/_cvgeo": _completions.zsh(page),
        "completions/cvgeo.fish": _completions.fish(page),
    }
    return files | {f"man/{name}": text for name, text in _manual.man_pages(page).items()}


def differences(root: Path) -> list[str]:
    """Paths that are missing, outdated, or in the way because nothing generates them."""
    files = generated()
    existing = {f"{folder}/{path.name}" for folder in ("completions", "man") for path in (root / folder).glob("*")}
    outdated = {name for name in files if name in existing and (root / name).read_text(encoding="utf-8") != files[name]}
    # Section 7 holds longer texts that are written by hand.
    strange = {name for name in existing - files.keys() if not name.endswith(".7")}
    return sorted((files.keys() - existing) | outdated | strange)


def main(arguments: list[str]) -> int:
    """Write the files, or with `--check` only name those that differ (status 1)."""
    check = "--check" in arguments
    root = Path(next((one for one in arguments if one != "--check"), "."))
    different = differences(root)
    for name in different:
        print(name)
    if check:
        return 1 if different else 0
    files = generated()
    for name in different:
        if name in files:
            write_text(root / name, files[name])
        else:
            (root / name).unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
