"""Texts in, embeddings out: files and columns read and checked, documents divided into splits, and the encoder."""
