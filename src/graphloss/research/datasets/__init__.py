"""Known data sets: where they are published, how they are fetched, checked and parsed."""
