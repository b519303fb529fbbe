"""Allowed values of the bandwidth σ; without torch, since the settings import it."""

RULES = ("root", "mst")
"""Rules by which `graph.bandwidth` chooses σ from the data."""

SIGMAS = ("auto", *RULES, "learned")
"""Names allowed in place of a number."""

AUTO_SIGMA = 0.3
"""The value of `sigma="auto"`."""

LEAST_SIGMA = 1e-3
"""Below it, 1 / sigma² leaves the range of float32 and `graph.MASKED`; the nearest neighbor has all weight anyway."""
