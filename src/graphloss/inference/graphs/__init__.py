"""Graphs over the embeddings of all documents: neighbors, spreading, and texts that stand for others."""
