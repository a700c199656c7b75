"""The order of DESIGN.md, held by reading every module: who imports whom, who prints, what is never done."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cvgeo.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "cvgeo"
MODULES = sorted(PACKAGE.rglob("*.py"))

BASE = {"geometry", "config", "errors", "memory", "report", "paths"}
MIDDLE = {"models", "losses", "data"}
UPPER = {"training", "retrieval", "evaluation", "explain"}
# What each part may import besides itself; the package's own __init__ holds only the version.
ALLOWED = {
    "cli": UPPER | MIDDLE | BASE | {"pipelines"},
    "pipelines": UPPER | MIDDLE | BASE,
    "training": UPPER | MIDDLE | BASE,
    "evaluation": UPPER | MIDDLE | BASE,
    "explain": UPPER | MIDDLE | BASE,
    "retrieval": BASE | {"evaluation"},  # arrays, never images or models
    "data": BASE,
    "models": BASE,
    "losses": BASE | {"models"},
    "geometry": {"errors"},
    "config": {"errors", "paths"},
    "memory": set(),
    "paths": {"errors"},
    "report": {"errors"},
    "errors": set(),
}
HEAVY = {"torch", "torchvision", "cv2", "h5py", "numpy", "rasterio", "PIL"}
LAZY = {"rasterio", "scipy", "matplotlib", "timm", "faiss", "pymilvus", "milvus_lite", "folium"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is imported anywhere in a tree, `from x import y` as x.y."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def top_imports(tree: ast.Module) -> set[str]:
    """Packages that importing the module imports: nothing inside functions or under TYPE_CHECKING."""
    found: set[str] = set()
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {name.split(".")[0] for name in imports(node)}
        nodes += ast.iter_child_nodes(node)
    return found


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == name]


@pytest.fixture(params=MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def module(request) -> Path:
    return request.param


def test_imports_run_one_way(module):
    part = part_of(module)
    if part in ("__init__", "__main__"):
        return
    parts = {name.split(".")[1] for name in imports(tree_of(module)) if name.startswith("cvgeo.")}
    assert parts - {part, "__version__"} <= ALLOWED[part]


def test_only_the_command_line_prints(module):
    if part_of(module) == "cli":
        return
    tree = tree_of(module)
    assert not calls(tree, "print")
    assert not {"sys.stdout", "sys.stderr.write"} & {ast.unparse(node) for node in ast.walk(tree)}


def test_only_the_lightest_is_imported_at_the_top(module):
    tops = top_imports(tree_of(module))
    assert not LAZY & tops
    if part_of(module) in ("cli", "__init__", "__main__", "errors", "report", "paths", "config"):
        assert not HEAVY & tops


def test_no_pickle(module):
    tree = tree_of(module)
    # The error's name may be imported: torch.load raises it for a file that is none of ours.
    used = set(imports(tree)) | {ast.unparse(one) for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
    inside = {name for name in used if name.split(".")[0] in ("pickle", "dill", "joblib", "shelve")}
    assert inside <= {"pickle", "pickle.UnpicklingError"}
    for call in calls(tree, "torch.load"):
        keywords = {one.arg: ast.unparse(one.value) for one in call.keywords}
        assert keywords.get("weights_only") == "True", ast.unparse(call)
    for call in [*calls(tree, "np.load"), *calls(tree, "numpy.load")]:
        assert all(one.arg != "allow_pickle" for one in call.keywords)


def test_typers_inside_is_left_alone(module):
    assert not any(name.startswith(("typer._", "click")) for name in imports(tree_of(module)))


def test_nothing_is_caught_that_is_not_expected(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            if caught in ("", "Exception", "BaseException"):
                inside = [one for statement in node.body for one in ast.walk(statement)]
                raised = any(isinstance(one, ast.Raise) for one in inside)
                passed_on = any(isinstance(one, ast.Name) and one.id == node.name for one in inside)
                assert raised or passed_on, f"line {node.lineno} swallows {caught or 'everything'}"


def test_functions_fit_a_screen(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"


def test_functions_are_annotated(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")]
            assert not bare, f"{node.name}: {bare}"
            assert node.returns is not None or (node.name == "__init__" and arguments[1:]), node.name


def test_nothing_is_unfinished(module):
    text = module.read_text(encoding="utf-8")
    assert not re.search(r"\b(TODO|FIXME|XXX|NotImplementedError)\b", text)


@pytest.mark.parametrize("name", [name for name, _, _ in COMMANDS])
def test_every_command_has_examples(name):
    path, function = next((path, function) for command, path, function in COMMANDS if command == name)
    loaded = importlib.import_module(f"cvgeo.cli.{path}")
    assert loaded.EXAMPLES, f"{path} has no EXAMPLES"
    assert f"cvgeo {name}" in loaded.EXAMPLES[0][0]
    assert all("cvgeo " in line and text for line, text in loaded.EXAMPLES)
    assert getattr(loaded, function).__doc__


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_no_machine_paths_are_tracked():
    machine = re.compile(r"(?<![\w.~/$}])/(work|root|farm|home/[a-z]+)/\w")
    wrong = []
    for path in tracked_files():
        if path.suffix in {".png", ".jpg", ".tif", ".h5"} or not path.is_file():
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        wrong += [f"{path.relative_to(ROOT)}:{number}" for number, line in enumerate(lines, 1) if machine.search(line)]
    assert not wrong


def test_top_level_holds_what_the_design_lists():
    allowed = {"pyproject.toml", "README.md", "LICENSE", "cvgeo", "tests", "completions", "man"}
    tops = {path.relative_to(ROOT).parts[0] for path in tracked_files()}
    assert {name for name in tops if not name.startswith(".")} <= allowed
