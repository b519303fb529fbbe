"""Comparison of losses: a grid of data sets, shots, losses, modes and seeds, one result file per cell, and a page."""
