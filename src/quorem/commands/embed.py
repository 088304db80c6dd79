"""quorem embed."""

import argparse

from quorem.errors import UserError
from quorem.vectors.embed import embed, embed_tokens

GIVEN = ("out", "text_column", "pooling", "max_length", "format", "bad_rows")


def run(options: argparse.Namespace) -> None:
    """Write vectors."""
    if options.tokens == bool(options.data):
        raise UserError("data files or --tokens are needed, one of the two")
    if options.tokens:
        found = embed_tokens(options.run_folder, options.out)
        print(f"{options.out}: {found['tokens']} tokens, vectors of {found['width']} numbers")
        return
    found = embed(options.run_folder, options.data, **{name: getattr(options, name) for name in GIVEN})
    bad = f", {found['bad']} bad and left out" if found["bad"] else ""
    print(f"{options.out}: {found['written']} rows, vectors of {found['width']} numbers{bad}")
