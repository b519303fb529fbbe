"""Reports of a run folder: `report.html`, a self-contained page, and the model card."""
