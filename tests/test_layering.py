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

# The wings of the house: each imports from itself and from those above it. CONTRIBUTING.md has the same table.
WINGS = {
    "foundation": "`errors`, `distributed` (processes), `disk` (paths, whole files, locks), `free_memory`, `terminal`",
    "losses": "embeddings and labels in, a scalar out: graph, solvers, propagation, memory bank, losses and baselines",
    "text": "texts in, embeddings out: files, columns, splits, and the encoder",
    "inference": "what is concluded from embeddings: probes, graphs, predictors, label errors; the fitted model",
    "training": "settings in, a fitted model out: checks and sizes, batches, the trainer",
    "report": "a run folder becomes a page and a model card",
    "run": "what the commands do with a corpus and a run folder",
    "research": "the paper's experiment: known data sets, tuning, losses compared",
    "doors": "`classifier` (scikit-learn) and `sentence_transformers` (losses for its trainer)",
    "cli": "options and tables; nothing imports it",
}
FOUNDATION, OUTER = (
    {"errors", "distributed", "disk", "free_memory", "terminal"},
    {"classifier", "sentence_transformers"},
)
RANK = {wing: rank for rank, wing in enumerate(WINGS)}

# One third-party library, one door.
DOORS = {
    "typer": {
        "cli.application",
        "cli.data_commands",
        "cli.label_commands",
        "cli.train_commands",
        "cli.options",
        "cli.predict_commands",
    },
    "plotly": {
        "report.figures",
        "report.sections",
        "research.bench.figures",
    },
    "optuna": {f"research.tuning.{name}" for name in ("killed_trials", "sampler", "storage", "study")},
    "jinja2": {"report.sections"},
    "starlette": {"run.label_server"},
    "uvicorn": {"run.label_server"},
    "filelock": {"disk"},
    "psutil": {"free_memory"},
    "faiss": {"inference.graphs.nearest_neighbors"},
    "pytorch_metric_learning": {"losses.baselines"},
}


@dataclass(frozen=True)
class Import:
    """One imported module; `ours` is its name inside graphloss, as `losses` or `data.sources`, if it is one of ours."""

    top: str
    ours: str | None
    only_types: bool
    at_import: bool


def our_module(name: str) -> str | None:
    """The longest part of a name that is a module of ours: "graphloss.text.data_sources.Entry" is of "data.sources"."""
    top, *parts = name.split(".")
    heads = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((head for head in heads if head in MODULES), None) if top == "graphloss" else None


def wing(name: str) -> str:
    """The wing that a module belongs to."""
    top = name.partition(".")[0]
    if top in FOUNDATION:
        return "foundation"
    if top in OUTER:
        return "doors"
    return "cli" if top == "__main__" else top


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


def test_every_module_has_a_wing() -> None:
    strange = {name for name in MODULES if name != "__init__" and wing(name) not in WINGS}
    assert not strange, f"these belong to no wing: {sorted(strange)}"
    assert {wing(name) for name in MODULES if name != "__init__"} == set(WINGS)
    nested = {"inference.graphs", "research.bench", "research.datasets", "research.tuning", "text.parsing"}
    assert {path.parent.name for path in PACKAGE.glob("*/*/*.py")} == {name.partition(".")[2] for name in nested}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} | nested == PACKAGES
    rooms: dict[str, int] = {}
    for name in MODULES - PACKAGES - {"__init__"}:
        rooms[name.rpartition(".")[0]] = rooms.get(name.rpartition(".")[0], 0) + 1
    assert max(rooms.values()) <= 18 and len(rooms) >= 10, "a folder that holds more wants to be divided"


def test_a_package_is_a_docstring() -> None:
    """Names have one home: nothing is handed on by a package."""
    for name in sorted(PACKAGES):
        assert [type(node) for node in TREES[name].body] == [ast.Expr] or name == "cli", f"{name}/__init__.py does more"
    assert len(PACKAGES) >= 10


def test_contributing_has_the_same_table() -> None:
    rows = [f"| `{name}` | {what} |" if name in MODULES else f"| {name} | {what} |" for name, what in WINGS.items()]
    page = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert "\n".join(rows) in page


def test_imports_run_down_the_list() -> None:
    """Those inside functions and those for types too."""
    seen = 0
    for name, found in IMPORTS.items():
        for item in found:
            if item.ours and name != "__init__" and item.ours != "__init__":
                seen += 1
                assert RANK[wing(item.ours)] <= RANK[wing(name)], f"{name} imports {item.ours}, which stands below it"
    assert seen >= 200


def test_no_cycle_of_files_or_wings() -> None:
    files = {name: {item.ours for item in found if item.ours} for name, found in IMPORTS.items() if name != "__init__"}
    wings: dict[str, set[str]] = {}
    folders: dict[str, set[str]] = {}
    for name, used in files.items():
        wings.setdefault(wing(name), set()).update(wing(other) for other in used if wing(other) != wing(name))
        own = name.rpartition(".")[0]
        folders.setdefault(own, set()).update(
            o.rpartition(".")[0] for o in used if o.rpartition(".")[0] not in ("", own)
        )
    for graph, least in ((files, 90), (wings, 9), (folders, 10)):
        assert len(list(TopologicalSorter(graph).static_order())) >= least  # raises CycleError with the cycle


def test_the_losses_know_torch_alone() -> None:
    """But for the library of the baselines; processes are the only thing of the foundation that a loss knows."""
    seen = [name for name in MODULES if wing(name) == "losses"]
    for name in seen:
        own = {library for library, doors in DOORS.items() if name in doors}
        allowed = {"torch", "__future__", *own, *sys.stdlib_module_names}
        for item in IMPORTS[name]:
            if item.top == "graphloss":
                assert item.ours is not None and wing(item.ours) == "losses", f"{name} imports {item}"
            else:
                assert item.top in allowed, f"{name} imports {item}"
    assert len(seen) >= 8


def test_text_and_inference_know_no_settings() -> None:
    seen = [name for name in MODULES if wing(name) in ("text", "inference")]
    for name in seen:
        used = {item.ours for item in IMPORTS[name] if item.ours}
        assert not any(other.startswith("training") for other in used), f"{name} knows settings"
        assert "Settings" not in ast.unparse(TREES[name]), f"{name} knows settings"
    assert len(seen) >= 20


def test_the_commands_do_not_go_through_the_classifier() -> None:
    seen = [name for name in MODULES if wing(name) in ("run", "research", "report", "cli")]
    for name in seen:
        assert not any(item.ours == "classifier" for item in IMPORTS[name]), f"{name} imports the classifier"
    assert len(seen) >= 30


def test_nobody_imports_the_command() -> None:
    assert "cli" in MODULES
    users = {name for name, found in IMPORTS.items() if any(i.ours and wing(i.ours) == "cli" for i in found)}
    assert users and {wing(name) for name in users} == {"cli"}


def test_a_library_has_one_door() -> None:
    for library, doors in DOORS.items():
        users = {name for name, found in IMPORTS.items() if any(item.top == library for item in found)}
        assert users == doors, f"{library}: imported by {sorted(users)}, doors are {sorted(doors)}"
    assert len(DOORS) >= 5


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
        "import graphloss.training.settings, graphloss.errors",
        "import graphloss.cli",
        HELP.format(["graphloss", "--help"]),
        HELP.format(["graphloss", "train", "--help"]),
        HELP.format(["graphloss", "predict", "nowhere", "--text", "x"]),
        HELP.format(["graphloss", "label", "nowhere.csv"]),
    ],
    ids=["package", "settings", "command", "help", "train --help", "predict nowhere", "label nowhere"],
)
def test_nothing_heavy_is_loaded_before_it_is_used(code: str, tmp_path: Path) -> None:
    report = f"import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)"
    done = python(f"{code}\n{report}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1]) == []
    assert (
        "main()" not in code
        or "Usage" in done.stdout
        or "there is no such" in done.stderr
        or "no such run" in done.stderr
    )


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


# Names that nothing in the package calls: what Python, a library or a user calls by name.
CALLED_FROM_OUTSIDE = {"cli.application._common", "research.bench.curve.CLOCKS"}  # by typer; by benchmarks


def top_level_names(tree: ast.Module) -> dict[str, ast.stmt]:
    """The names that a module defines, with the statement that does."""
    found: dict[str, ast.stmt] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def used_names(tree: ast.Module, own: str) -> set[tuple[str, str]]:
    """(module, name) for each name of ours that a module takes from another one or uses of its own."""
    aliases: dict[str, str] = {}
    used: set[tuple[str, str]] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("graphloss.")
                if whole in MODULES:
                    aliases[alias.asname or alias.name] = whole
                else:
                    used.add(((node.module or "").removeprefix("graphloss."), alias.name))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            used.add((aliases[node.value.id], node.attr))
    for statement in tree.body:
        mine = set(top_level_names(ast.Module([statement], [])))
        loads = (
            node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )
        used |= {(own, name) for name in loads if name not in mine}  # a function that only calls itself is unused
        texts = (node.value for node in ast.walk(statement) if isinstance(node, ast.Constant))
        used |= {(own, text) for text in texts if isinstance(text, str) and text.isidentifier() and text not in mine}
    return used


def test_every_top_level_name_is_used_or_public() -> None:
    """In the package itself: what only tests call belongs to the tests."""
    used = set().union(*(used_names(tree, name) for name, tree in TREES.items()))
    from graphloss import _HOME  # the exported names

    used |= {(home, name) for name, home in _HOME.items()}
    page = (PACKAGE.parents[1] / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    documented = {line.removeprefix("::: graphloss.") for line in page.splitlines() if line.startswith(":::")}
    names = [(module, name) for module, tree in TREES.items() for name in top_level_names(tree)]
    names = [(module, name) for module, name in names if not name.startswith("__")]
    unused = [
        f"{module}.{name}"
        for module, name in names
        if (module, name) not in used and module not in documented and f"{module}.{name}" not in documented
    ]
    assert set(unused) == CALLED_FROM_OUTSIDE
    assert len(names) >= 500
