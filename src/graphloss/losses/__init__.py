"""Losses: embeddings and labels in, a scalar out. They know torch alone (`baselines` also pytorch-metric-learning)."""
