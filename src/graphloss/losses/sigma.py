"""What a bandwidth σ may be; without torch, for the settings say it as well."""

RULES = ("root", "mst")
"""By which `graph.bandwidth` chooses σ from the data."""

SIGMAS = ("auto", *RULES, "learned")
"""What stands for a number."""

AUTO_SIGMA = 0.3
"""What `sigma="auto"` stands for."""

LEAST_SIGMA = 1e-3
"""Below it, the squares of 1 / sigma leave what float32 and `graph.MASKED` can hold, and nothing is gained: at this
temperature the nearest neighbor has all the weight already."""
