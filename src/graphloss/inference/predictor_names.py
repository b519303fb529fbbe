"""The predictors by name; without torch, for the settings say them as well."""

PREDICTORS = ("mix", "head", "graph", "knn")
"""What `predictor.Predictor` answers with: head and graph together, either alone, or the nearest documents."""
