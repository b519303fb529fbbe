"""A hook of mkdocs: formulas become MathML while the site is built, so that a reader needs no script and no network."""

import html
import re
from typing import Any

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_page_content(text: str, **_: Any) -> str:
    """A page with its formulas as MathML."""
    from latex2mathml.converter import convert

    def formula(found: re.Match[str]) -> str:
        tag, kind, source = found.groups()
        shown = convert(html.unescape(source), display="inline" if kind == "(" else "block")
        return f"<{tag}>{shown}</{tag}>"

    return FORMULA.sub(formula, text)
