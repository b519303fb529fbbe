"""Losses compared: a grid of data sets, shots, losses, modes and seeds, a result file a cell, tables and a page."""
