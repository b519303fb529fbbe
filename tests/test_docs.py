"""The documentation names what is there: commands, options, settings, functions, tests, files, links."""

from __future__ import annotations

import ast
import csv
import importlib
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import documented

import graphloss
from graphloss.cli import app
from graphloss.inference import run_folder
from graphloss.training.settings import LOSSES, DataSettings, TrainSettings, names

ROOT = Path(graphloss.__file__).parents[2]
DOCS = ROOT / "docs"
GUIDES = [path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "research"]
PAGES = [ROOT / "README.md", *GUIDES]
ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
OTHERS = {
    *("--nproc-per-node", "--num_processes", "--multi_gpu", "--cpu", "--mpirun_hostfile"),  # launchers
    *("--no-index", "--find-links"),  # pip
}
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


def options_of(command: Any) -> set[str]:
    return {flag for item in command.params for flag in [*item.opts, *item.secondary_opts] if flag.startswith("-")}


def commands() -> dict[str, set[str]]:
    """The options of each command, those of a group's commands under both words."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {})
        found |= {f"{name} {sub}": options_of(each) for sub, each in inner.items()} or {name: options_of(command)}
    return {name: options | {"--help"} for name, options in found.items()}


COMMANDS = commands()


def typed(page: Path) -> list[list[str]]:
    """The words behind `graphloss` in every line of a page's code that calls it, in blocks and in sentences."""
    text = page.read_text(encoding="utf-8")
    lines = [line for _, kind, block in BLOCK.findall(text) if kind != "python" for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]*graphloss [^`\n]*)`", BLOCK.sub("", text))
    calls = [re.split(r"(?:^|\s)(?:-m )?graphloss (?=[a-z])", line, maxsplit=1) for line in lines]
    return [shlex.split(call[1].replace("'", "").replace("…", ""), comments=True) for call in calls if len(call) == 2]


def command_of(words: list[str]) -> str | None:
    return next((name for name in (" ".join(words[:2]), words[0]) if name in COMMANDS), None)


def test_every_command_that_is_typed_exists_with_its_options() -> None:
    seen = 0
    for page in PAGES:
        for words in typed(page):
            name = command_of(words)
            assert name, f"{page.name}: `graphloss {' '.join(words)}` is no command"
            flags = {re.split("[=]", word)[0] for word in words if word.startswith("-") and word != "-"}
            strange = flags - COMMANDS[name] - OTHERS
            assert not strange, f"{page.name}: `graphloss {name}` has no {', '.join(sorted(strange))}"
            seen += 1
    assert seen >= 60


def test_every_option_that_is_named_exists() -> None:
    known, seen = set().union(*COMMANDS.values()) | OTHERS | {"--version"}, 0
    for page in PAGES:
        for code in re.findall(r"`([^`\n]+)`", BLOCK.sub("", page.read_text(encoding="utf-8"))):
            for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
                assert option in known, f"{page.name}: no command has {option}"
                seen += 1
    assert seen >= 80


def test_every_loss_and_every_file_of_a_run_is_described() -> None:
    losses = (DOCS / "reference" / "losses.md").read_text(encoding="utf-8")
    assert len(LOSSES) == 7 and all(f"\n## {name}\n" in losses for name in LOSSES)
    run = (DOCS / "reference" / "run-folder.md").read_text(encoding="utf-8")
    files = [
        run_folder.INFO,
        *run_folder.SEALED,
        run_folder.AUDIT,
        run_folder.REPORT,
        run_folder.CARD,
        run_folder.CHECKPOINTS,
    ]
    assert len(files) >= 12 and all(f"| `{name}" in run for name in files)


def test_the_generated_pages_have_every_command_and_setting() -> None:
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    assert spec and spec.loader
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = hooks.on_page_markdown("<!-- commands -->")
    assert [name for name in COMMANDS if f"\n## graphloss {name}\n" not in f"\n{page}"] == []
    assert len(COMMANDS) >= 11 and "`--explain`" in page and "[dim]" not in page
    listed = hooks.on_page_markdown("<!-- settings -->")
    every = [*names(DataSettings), *names(TrainSettings)]
    assert len(every) >= 35 and [name for name in every if f"| `{name}` |" not in listed] == []
    assert len(hooks.MARKS) == 3 and all(generate() for generate in hooks.MARKS.values())
    marked = [page for page in GUIDES if any(mark in page.read_text(encoding="utf-8") for mark in hooks.MARKS)]
    assert len(marked) == 3


def test_the_mathematics_lead_to_functions_and_tests() -> None:
    package = Path(graphloss.__file__).parent
    homes = {path.stem: path for folder in ("losses", "inference") for path in (package / folder).rglob("*.py")}
    homes["distributed"] = package / "distributed.py"
    rows = re.findall(r"^\| .* \| (`[^|]*`) \| (`[^|]*`) \|$", (DOCS / "explanation" / "maths.md").read_text(), re.M)
    assert len(rows) >= 20
    for functions, tests in rows:
        for module, name in re.findall(r"`(\w+)\.(\w+)`", functions):
            assert name in defined(homes[module]), f"{module} has no {name}"
        for file, _, name in re.findall(r"`(test_\w+\.py)(::(\w+))?`", tests):
            assert not name or name in defined(ROOT / "tests" / file), f"{file} has no {name}"
            assert (ROOT / "tests" / file).is_file(), file


def defined(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def anchors(page: Path) -> set[str]:
    """The anchors of a page's heads, as Python-Markdown makes them."""
    heads = re.findall(r"^#+ (.*)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    heads += [f"graphloss {name}" for name in COMMANDS] if page.name == "commands.md" else []
    plain = (re.sub(r"[^\w\s-]", "", head.encode("ascii", "ignore").decode()).strip().lower() for head in heads)
    return {re.sub(r"[-\s]+", "-", head) for head in plain}


def test_every_relative_link_and_anchor_resolves() -> None:
    seen = 0
    for page in ALL:
        text = BLOCK.sub("", page.read_text(encoding="utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            other = (page.parent / path).resolve() if path else page
            assert other.is_file(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(other), f"{page.name}: {target}"
            seen += 1
    assert seen >= 80


def test_the_readme_works_on_a_page_that_has_no_repository_beside_it() -> None:
    """On PyPI a relative link leads nowhere."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links and all(link.startswith("https://") for link in links)
    assert len(text.splitlines()) <= 120


def test_the_guides_stay_short() -> None:
    assert len(GUIDES) >= 20
    assert sum(len(page.read_text(encoding="utf-8").split()) for page in GUIDES) <= 14_000


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.stem)
def test_no_private_language(page: Path) -> None:
    """The field's words: a head predicts, documents have neighbors, baselines are compared."""
    text = re.sub(r"`[^`\n]*`", "", BLOCK.sub("", page.read_text(encoding="utf-8")))
    strange = r"\b([Rr]ivals?|taught|hears?|judges?|judged|asks?|asked|said|lesson)\b"
    assert not (found := re.findall(strange, text)), f"{page.name}: {found}"


def test_what_the_examples_import_exists() -> None:
    seen = 0
    for page in ALL:
        for _, kind, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for node in ast.walk(ast.parse(block)) if kind == "python" else ():
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("graphloss"):
                    module = importlib.import_module(node.module or "")
                    assert [name.name for name in node.names if not hasattr(module, name.name)] == [], page.name
                    seen += 1
    assert seen >= 4


def test_the_files_of_the_tutorial_belong_together() -> None:
    """Its labeled texts come from its pile, and its classes are those that it describes."""
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    blocks = [block for _, _, block in BLOCK.findall(text)]
    described = next(tomllib.loads(block) for block in blocks if block.startswith("card_arrival ="))
    pile = next(block.splitlines() for block in blocks if block.startswith("When will my new card"))
    tables = [list(csv.reader(block.splitlines()[1:])) for block in blocks if block.startswith("text,label\n")]
    labeled, test = tables
    assert len(pile) == 36 and len(labeled) == 10 and len(test) == 20 and len(described) == 4
    assert {name for _, name in labeled} == {name for _, name in test} == set(described)
    assert {line for line, _ in labeled} <= set(pile) and not {line for line, _ in test} & set(pile)


@pytest.mark.slow
def test_the_table_of_hostile_inputs_counts_what_the_tests_try() -> None:
    names = ["test_loss_inputs.py", "test_labels.py", "test_terminal.py", "test_security.py"]
    files = [str(Path(__file__).with_name(name)) for name in names]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *files]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    assert {name: listed.count(f"{name}::") for name in names} == {name: documented(name) for name in names}
