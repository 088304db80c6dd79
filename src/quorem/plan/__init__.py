"""Resolve settings before training: fill in defaults, size the tables, count bytes, and run a dry run."""
