"""A page about runs: curves, sizes, examples."""
