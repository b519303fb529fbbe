"""What a run folder tells people: `report.html`, a page that needs nothing else, and the model card."""
