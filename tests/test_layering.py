"""Imports run one way, the maths knows torch alone, heavy libraries load where they are used, importing is silent."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "graphloss"
HEAVY = (
    "accelerate",
    "datasets",
    "optuna",
    "pandas",
    "plotly",
    "pyarrow",
    "pytorch_metric_learning",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "torch",
    "transformers",
)

# A module or package imports from its own layer and those before it.
LAYERS = tuple(
    line.split()
    for line in (
        "errors paths locks",
        "processes machine graph solvers neighbours propagation corpus_graph objectives losses prediction memory "
        "gradcache rivals",
        "config checking presets catalogue encoder encoder_files sampling documents schedule lower room data",
        "evaluation soft_probe unlabelled opinions teaching leftout audit model checkpoints trainer training given "
        "answering classifier sentence_transformers tuning runfolder claim plan scored runs auditing serving console "
        "report",
        "bench",
        "cli __main__",
    )
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
MATHS = LAYERS[1]

# One third-party library, one door.
DOORS = {
    "typer": {"cli.application", "cli.datasets", "cli.learning", "cli.options", "cli.using"},
    "plotly": {"report.figures", "report.page", "report.sections", "bench.figures", "bench.page"},
    "optuna": {"tuning.proposals", "tuning.storage", "tuning.study"},
    "faiss": {"neighbours"},
    "peft": {"encoder"},
    "pytorch_metric_learning": {"rivals"},
}


@dataclass(frozen=True)
class Import:
    """One imported module; `ours` is its name inside graphloss, as `losses` or `data.sources`, if it is one of ours."""

    top: str
    ours: str | None
    only_types: bool
    at_import: bool


def our_module(name: str) -> str | None:
    """The longest part of a name that is a module of ours: "graphloss.data.sources.Entry" is of "data.sources"."""
    top, *parts = name.split(".")
    heads = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((head for head in heads if head in MODULES), None) if top == "graphloss" else None


def room(name: str) -> str:
    """The package that a module belongs to; a module of the top is a room of its own."""
    return name.partition(".")[0]


def imports(tree: ast.Module) -> list[Import]:
    found: list[Import] = []

    def visit(node: ast.AST, only_types: bool, at_import: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, True, at_import)
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            found.append(Import(name.split(".")[0], our_module(name), only_types, at_import))
        for child in ast.iter_child_nodes(node):
            visit(child, only_types, at_import)

    visit(tree, False, True)
    return found


def module_of(path: Path) -> str:
    """Module name inside graphloss; a package goes by its own name, graphloss itself by `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_of(path): path for path in PACKAGE.rglob("*.py")}
MODULES = set(FILES)
PACKAGES = {name for name, path in FILES.items() if path.stem == "__init__" and name != "__init__"}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
IMPORTS = {name: imports(tree) for name, tree in TREES.items()}


def test_every_module_has_a_layer() -> None:
    rooms = {room(name) for name in MODULES} - {"__init__"}
    assert not rooms - set(RANK), f"give these a place in LAYERS: {sorted(rooms - set(RANK))}"
    assert not list(PACKAGE.glob("*/*/*.py")), "packages are one folder deep"
    assert len(rooms) >= 20 and len(MODULES) >= 35
    assert PACKAGES == {"bench", "cli", "data", "report", "tuning"} == {room(name) for name in MODULES if "." in name}


def test_the_inside_of_a_package_is_its_own() -> None:
    """Others import the package, whose own module only hands names on."""
    inside = 0
    for name, found in IMPORTS.items():
        for item in found:
            if item.ours and "." in item.ours:
                inside += 1
                assert room(item.ours) == room(name), f"{name} imports {item.ours}: import {room(item.ours)} instead"
    assert inside >= 20
    for name in sorted(PACKAGES):
        body = [node for node in TREES[name].body if not isinstance(node, ast.Expr | ast.ImportFrom)]
        assert [ast.unparse(node).partition(" = ")[0] for node in body] == ["__all__"], f"{name}/__init__.py does more"
        handed = {alias.name for node in TREES[name].body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert len(handed) >= 2 and handed == set(ast.literal_eval(body[0].value))


def test_imports_run_one_way() -> None:
    seen = 0
    for name, found in IMPORTS.items():
        for item in found:
            if item.ours and name != "__init__":
                seen += 1
                assert RANK[room(item.ours)] <= RANK[room(name)], f"{name} imports {item.ours}, which stands above it"
    assert seen >= 60


def test_no_two_modules_import_each_other() -> None:
    modules = {
        name: {item.ours for item in found if item.ours and not item.only_types}
        for name, found in IMPORTS.items()
        if name != "__init__"
    }
    rooms: dict[str, set[str]] = {}
    for name, used in modules.items():
        rooms.setdefault(room(name), set()).update(room(other) for other in used if room(other) != room(name))
    for graph, least in ((modules, 35), (rooms, 20)):
        assert len(list(TopologicalSorter(graph).static_order())) >= least  # raises CycleError with the cycle


def test_the_maths_knows_torch_alone() -> None:
    """But for the library of the rivals, which stand in it as losses like any other."""
    seen = [name for name in MATHS if name in MODULES]
    for name in seen:
        own = {library for library, doors in DOORS.items() if name in doors}
        allowed = {"torch", "__future__", *own, *sys.stdlib_module_names}
        for item in IMPORTS[name]:
            assert item.ours in MATHS if item.top == "graphloss" else item.top in allowed, f"{name} imports {item}"
    assert len(seen) >= 3


def test_nobody_imports_the_command() -> None:
    assert "cli" in MODULES
    users = {room(name) for name, found in IMPORTS.items() if any(i.ours and room(i.ours) == "cli" for i in found)}
    assert users <= {"cli", "__main__"}


def test_a_library_has_one_door() -> None:
    for library, doors in DOORS.items():
        users = {name for name, found in IMPORTS.items() if any(item.top == library for item in found)}
        assert users <= doors, f"{library} is imported by {sorted(users)}"
    assert {name for name, found in IMPORTS.items() if any(i.top == "plotly" for i in found)}


def test_module_bodies_only_define() -> None:
    """Docstrings, imports, constants, functions and classes; a call only as the value of a constant."""
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.FunctionDef, ast.ClassDef, ast.If)
    seen = 0
    for name, tree in TREES.items():
        for node in tree.body:
            seen += 1
            if isinstance(node, ast.Expr):
                docstring = isinstance(node.value, ast.Constant)
                registers = name == "cli.application" and ast.unparse(node).startswith(("app.", "data_app."))
                assert docstring or registers, f"{name}:{node.lineno} does something when imported"
            elif isinstance(node, ast.If):
                tests = ("TYPE_CHECKING", "__name__ == '__main__'")
                assert ast.unparse(node.test) in tests, f"{name}:{node.lineno} decides something when imported"
            else:
                assert isinstance(node, allowed), f"{name}:{node.lineno} does something when imported"
    assert seen >= 100


HELP = """
import sys, graphloss.cli
sys.argv = {}
try:
    graphloss.cli.main()
except SystemExit:
    pass
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    "code",
    [
        "import graphloss",
        "import graphloss.config, graphloss.errors",
        "import graphloss.cli",
        HELP.format(["graphloss", "--help"]),
        HELP.format(["graphloss", "train", "--help"]),
    ],
    ids=["package", "settings", "command", "help", "train --help"],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str, tmp_path: Path) -> None:
    report = f"import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)"
    done = python(f"{code}\n{report}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
    assert "main()" not in code or "Usage" in done.stdout


def test_importing_everything_leaves_no_trace(tmp_path: Path) -> None:
    names = sorted(f"graphloss.{name}" for name in MODULES if name not in ("__init__", "__main__"))
    code = f"""
import importlib, logging, random, threading
import numpy as np, torch
import datasets, sentence_transformers, sklearn, transformers  # what these do is theirs: one of them draws a number
state = lambda: (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
before, cores, threads = state(), torch.get_num_threads(), threading.active_count()
for name in {names!r}:
    importlib.import_module(name)
assert state() == before, "a random state has moved"
assert torch.get_num_threads() == cores, "the number of threads has changed"
assert threading.active_count() == threads, "a thread was started"
assert not logging.getLogger().handlers, "logging was configured"
"""
    done = python(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""
    assert not list(tmp_path.iterdir())
    assert len(names) >= 35
