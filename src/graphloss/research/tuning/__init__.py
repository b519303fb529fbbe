"""Tuning: what is searched, which documents judge, the study that processes share, and the search itself."""
