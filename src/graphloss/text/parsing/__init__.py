"""Bytes become lines, and lines become values: encodings, JSON, settings, labeled lines."""
