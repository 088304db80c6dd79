"""Recommending the next item: fine-tuning for it, judging it, and using it."""
