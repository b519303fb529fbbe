"""What the pages of a run and of bench are made of: sections, and the data of the figures in them."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


class Page:
    """Sections, and the data of the figures in them, as they come.

    Attributes:
        parts: HTML of the sections, in order.
        data: script elements, one a figure, which the page's script draws.
        titles: of the sections, by their anchor.
    """

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.data: list[str] = []
        self.titles: dict[str, str] = {}

    def section(self, title: str, note: str, body: str) -> None:
        """Add a section; the title and the note are plain text, the body is HTML."""
        anchor = title.lower().replace(" ", "-")
        self.titles[anchor] = title
        said = f'<p class="note">{html.escape(note)}</p>' if note else ""
        self.parts.append(f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{said}{body}</section>')

    def figure(self, figure: go.Figure, *, classes: Sequence[int] | None = None) -> str:
        """Keep the data of a figure; the HTML that stands where it is drawn.

        Args:
            figure: with its height in its layout.
            classes: of its rows, where choosing a class on the page picks among them.
        """
        name = f"figure-{len(self.data) + 1}"
        payload = figure.to_json().replace("<", "\\u003c")  # no text can close the script element
        self.data.append(f'<script type="application/json" id="{name}">{payload}</script>')
        of = "" if classes is None else f' data-classes="{json.dumps(list(classes), separators=(",", ":"))}"'
        return f'<div data-figure="{name}"{of} style="height:{int(figure.layout.height)}px"></div>'
