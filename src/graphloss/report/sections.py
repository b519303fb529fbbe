"""Sections and figures of a self-contained HTML page, for a run, a comparison or a study.

The page contains plotly's script once, and its content policy forbids loading anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from jinja2 import Template


@cache
def template(name: str) -> Template:
    """A template of `assets`; HTML is escaped, Markdown is not."""
    from jinja2 import Environment, PackageLoader, select_autoescape

    found = Environment(
        loader=PackageLoader("graphloss.report", "assets"),
        autoescape=select_autoescape(["html"]),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"percent": percent, "plain": plain, "cut": cut, "in_words": in_words}
    return found.get_template(name)


def part(name: str, *values: Any, **options: Any) -> str:
    """The HTML of a macro of `parts.html`; texts among its values are escaped."""
    return str(getattr(template("parts.html").module, name)(*values, **options))


def percent(value: float | None) -> str:
    """A fraction as a percentage of one decimal; a dash for none."""
    return "–" if value is None else f"{value:.1%}"


def plain(value: float | None) -> str:
    """Three decimals; a dash for none."""
    return "–" if value is None else f"{value:.3f}"


def cut(text: object, width: int) -> str:
    """The beginning of a text."""
    text = str(text)
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def in_words(value: Any) -> str:
    """A value of settings or facts; a dash for none."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(part)}" for name, part in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


class Page:
    """Sections and figures of a page.

    Attributes:
        sections: title, note and body of each, in order.
        figures: JSON by name, drawn by the page's script.
    """

    def __init__(self) -> None:
        self.sections: list[tuple[str, str, str]] = []
        self.figures: dict[str, str] = {}

    def section(self, title: str, note: str, body: str) -> None:
        """Add a section; the title and the note are plain text, the body is HTML."""
        self.sections.append((title, note, body))

    def figure(self, figure: go.Figure, *, classes: Sequence[int] | None = None) -> str:
        """Add the data of a figure and return the HTML of its place.

        Args:
            figure: with its height in its layout.
            classes: class of each point, if the page's class buttons select among them.
        """
        name = f"figure-{len(self.figures) + 1}"
        self.figures[name] = figure.to_json().replace("<", "\\u003c")  # no text can close the script element
        of = "" if classes is None else f' data-classes="{json.dumps(list(classes), separators=(",", ":"))}"'
        return f'<div data-figure="{name}"{of} style="height:{int(figure.layout.height)}px"></div>'

    def render(self, *, title: str, head: str, footer: str) -> str:
        """The whole HTML document; the head of the page is HTML, title and footer are plain text."""
        from plotly.offline import get_plotlyjs

        assets = files("graphloss.report") / "assets"
        return template("page.html").render(
            page=self,
            title=title,
            head=head,
            footer=footer,
            css=(assets / "report.css").read_text(encoding="utf-8"),
            script=(assets / "report.js").read_text(encoding="utf-8"),
            plotly=get_plotlyjs(),
        )
