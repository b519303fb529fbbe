"""The names of the predictors; apart from them, so that the settings need no torch."""

PREDICTORS = ("mix", "head", "graph", "knn")
"""What `predictor.Predictor` predicts by: head and graph together, either alone, or the nearest documents."""
