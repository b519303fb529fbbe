"""What is concluded from embeddings: probes, graphs, predictors, label errors, and the fitted model with its folder."""
