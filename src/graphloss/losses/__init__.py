"""Losses: embeddings and labels in, a scalar out; with torch only (`baselines` also pytorch-metric-learning)."""
