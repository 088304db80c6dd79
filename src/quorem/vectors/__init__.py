"""Vectors of texts, of rows of items and of single tokens, and which are alike."""
