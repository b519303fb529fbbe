"""Losses compared: a grid of data sets, shots, losses, modes and seeds, a result file a cell, tables and a page."""

from graphloss.bench.folder import REPORT, read_cells
from graphloss.bench.grid import Cell, Grid, ask
from graphloss.bench.page import write_page
from graphloss.bench.runner import Outcome, run
from graphloss.bench.summary import summarise
from graphloss.bench.tables import show

__all__ = ["REPORT", "Cell", "Grid", "Outcome", "ask", "read_cells", "run", "show", "summarise", "write_page"]
