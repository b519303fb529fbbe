"""Hooks of mkdocs: formulas become MathML, which needs no script, and settings are listed from their dataclasses."""

import html
import re
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_markdown(text: str, **_: Any) -> str:
    """A page with the table of all settings at its mark."""
    return text.replace("<!-- settings -->", settings()) if "<!-- settings -->" in text else text


def settings() -> str:
    """A table of each dataclass of settings."""
    from dataclasses import fields

    from graphloss.training.settings import DataSettings, TrainSettings

    parts = []
    for title, owner in (("Data", DataSettings), ("Training", TrainSettings)):
        parts += [f"## {title}", "", "| setting | default | |", "| --- | --- | --- |"]
        for item in fields(owner):
            choices = ", ".join(f"`{choice}`" for choice in item.metadata["choices"])
            text = f"{item.metadata['help']} {choices}".strip().replace("|", "\\|")
            parts.append(f"| `{item.name}` | `{item.default}` | {text} |")
        parts.append("")
    return "\n".join(parts)


def on_page_content(text: str, **_: Any) -> str:
    """A page with its formulas as MathML."""
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        tag, kind, source = found.groups()
        shown = convert(html.unescape(source), display="inline" if kind == "(" else "block")
        return f"<{tag}>{shown}</{tag}>"

    return FORMULA.sub(formula, text)
