"""The paper's experiment: its data sets, the search for settings, and losses compared over seeds."""
