"""Tuning: the search space, held-out documents, a study shared by processes, and the search."""
