"""Hooks of mkdocs: formulas become MathML, which needs no script; commands and settings are listed from the code."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
MARKUP = re.compile(r" ?\[dim\].*?\[/dim\]")
BAR = re.compile(r"(`[^`]*`)|\|")


def on_page_markdown(text: str, **_: Any) -> str:
    """A page with what is generated from the code in place of its marks."""
    for mark, generate in MARKS.items():
        text = text.replace(mark, generate()) if mark in text else text
    return text


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table with an empty line behind it; nothing where there is no row."""
    cells = [" | ".join(BAR.sub(lambda found: found[1] or "\\|", cell) for cell in row) for row in rows]
    rule = " | ".join("---" for _ in head)
    return [f"| {line} |" for line in (" | ".join(head), rule, *cells)] + [""] if cells else []


def flag(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")


def settings() -> str:
    """A table of each dataclass of settings."""
    from dataclasses import fields

    from graphloss.training.settings import DataSettings, TrainSettings

    parts = []
    for title, owner in (("Data", DataSettings), ("Training", TrainSettings)):
        rows = []
        for item in fields(owner):
            choices = ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
            default = "" if item.default is None else f"`{item.default}`"
            rows.append((f"`{item.name}`", default, f"{item.metadata['help']} {choices}".strip()))
        parts += [f"## {title}", "", *table(("setting", "default", ""), rows)]
    return "\n".join(parts)


def commands() -> str:
    """Every command with its arguments and options, from the application itself."""
    import typer

    from graphloss.cli import app

    parts: list[str] = []
    _describe(typer.main.get_command(app), "graphloss", parts)
    return "\n".join(parts)


def _describe(command: Any, name: str, parts: list[str]) -> None:
    """A command, or the commands of a group."""
    if subcommands := getattr(command, "commands", None):
        for sub, each in subcommands.items():
            _describe(each, f"{name} {sub}", parts)
        return
    from graphloss.training.settings import DataSettings, TrainSettings, names

    shared = {flag(each) for owner in (DataSettings, TrainSettings) for each in names(owner)}
    arguments, options, taken = [], [], set()
    for item in command.params:
        help_text = MARKUP.sub("", item.help or "").replace("\\[", "[")
        if item.param_type_name == "argument":
            metavar = item.metavar or item.name.upper()
            arguments.append((f"`{metavar if item.required else f'[{metavar}]'}`", help_text))
        elif not item.hidden and getattr(item, "rich_help_panel", None) in ("Data", "Training"):
            taken |= set(item.opts) & shared
        elif not item.hidden:
            shown = ", ".join(f"`{each}`" for each in item.opts)
            value = "" if item.is_flag else f"`{item.metavar or item.name.upper()}`"
            default = item.show_default if isinstance(item.show_default, str) else item.default
            known = item.show_default and default is not None and not item.is_flag
            options.append((shown, value, help_text + (f" Default: `{default}`." if known else "")))
    usage = " ".join([name, *(row[0].strip("`") for row in arguments), "[OPTIONS]"])
    parts += [f"## {name}", "", command.help or "", "", f"    {usage}", ""]
    parts += table(("argument", ""), arguments) + table(("option", "value", ""), options)
    if taken:
        missing = ", ".join(f"`{each}`" for each in sorted(shared - taken))
        parts += [f"Every [setting](settings.md) is an option too{f', but for {missing}' if missing else ''}.", ""]


def run_format() -> str:
    """The format number of a run folder."""
    from graphloss.inference.checksums import FORMAT

    return str(FORMAT)


MARKS = {"<!-- settings -->": settings, "<!-- commands -->": commands, "<!-- format -->": run_format}


def on_page_content(text: str, **_: Any) -> str:
    """A page with its formulas as MathML."""
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        tag, kind, source = found.groups()
        shown = convert(html.unescape(source), display="inline" if kind == "(" else "block")
        return f"<{tag}>{shown}</{tag}>"

    return FORMULA.sub(formula, text)
