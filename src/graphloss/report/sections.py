"""Sections and figures of a self-contained HTML page, for a run, a comparison or a study.

The page contains plotly's script once, and its content policy forbids loading anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


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

    def render(self, *, title: str, head: str, footer: str, css: str = "") -> str:
        """The whole HTML document; the head of the page is HTML, title and footer are plain text."""
        from jinja2 import Environment, PackageLoader
        from plotly.offline import get_plotlyjs

        page = Environment(
            loader=PackageLoader("graphloss.report", "assets"),
            autoescape=True,
            trim_blocks=True,
            keep_trailing_newline=True,
        ).get_template("page.html")
        assets = files("graphloss.report") / "assets"
        return page.render(
            page=self,
            title=title,
            head=head,
            footer=footer,
            css=(assets / "report.css").read_text(encoding="utf-8") + css,
            script=(assets / "report.js").read_text(encoding="utf-8"),
            plotly=get_plotlyjs(),
        )
