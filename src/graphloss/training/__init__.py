"""Settings in, a fitted model out: checks and sizes, batches, the encoder with head and loss, the trainer."""
