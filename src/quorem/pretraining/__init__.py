"""Pre-training: a run from data to two networks, what it starts from, and how it is judged."""
