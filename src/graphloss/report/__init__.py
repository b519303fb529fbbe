"""What a run folder tells people: `report.html`, a page that needs nothing else, and the model card."""

from graphloss.report.card import model_card
from graphloss.report.page import Document, render, write_report
from graphloss.report.sections import Page

__all__ = ["Document", "Page", "model_card", "render", "write_report"]
