"""Sizes beyond which nothing is built: a config may come from anybody."""

WIDEST, LONGEST = 2**16, 2**16  # of layers and rows: more overflows, or fills any memory
