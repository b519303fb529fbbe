"""What the pages of a run, a comparison and a study are made of: sections, and the figures in them, in one HTML file.

plotly's script stands in the file once, and a content policy forbids it to load anything.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Section(NamedTuple):
    """A part of a page; the title and the note are plain text, the body is HTML."""

    title: str
    note: str
    body: str

    @property
    def anchor(self) -> str:
        """Its name in links."""
        return self.title.lower().replace(" ", "-")


class Page:
    """Sections and figures, as they come.

    Attributes:
        sections: in order.
        figures: JSON by name, which the page's script draws.
    """

    def __init__(self) -> None:
        self.sections: list[Section] = []
        self.figures: dict[str, str] = {}

    def section(self, title: str, note: str, body: str) -> None:
        """Add a section; the title and the note are plain text, the body is HTML."""
        self.sections.append(Section(title, note, body))

    def figure(self, figure: go.Figure, *, classes: Sequence[int] | None = None) -> str:
        """Keep the data of a figure; the HTML that stands where it is drawn.

        Args:
            figure: with its height in its layout.
            classes: of its rows, where choosing a class on the page picks among them.
        """
        name = f"figure-{len(self.figures) + 1}"
        self.figures[name] = figure.to_json().replace("<", "\\u003c")  # no text can close the script element
        of = "" if classes is None else f' data-classes="{json.dumps(list(classes), separators=(",", ":"))}"'
        return f'<div data-figure="{name}"{of} style="height:{int(figure.layout.height)}px"></div>'

    def render(self, *, title: str, head: str, footer: str, css: str = "") -> str:
        """The whole HTML document.

        Args:
            title: of the window, plain text.
            head: HTML of the top.
            footer: plain text: who wrote the page.
            css: beside the style of all pages.
        """
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
