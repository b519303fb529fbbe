"""What the commands do: a corpus into a run folder, and a run folder into scores, predictions and label errors."""
