"""The loop, its optimizers, what several processes share, and the run folder."""
