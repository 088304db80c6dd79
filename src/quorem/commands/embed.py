"""quorem embed."""

import argparse

from quorem.errors import UserError
from quorem.vectors.embed import embed, embed_tokens

OF_TEXTS = ("text_column", "pooling", "max_length", "format", "bad_rows")


def run(options: argparse.Namespace) -> None:
    """Write vectors."""
    if options.tokens == bool(options.data):
        raise UserError("data files or --tokens are needed, one of the two")
    if options.tokens:
        if given := [name for name in OF_TEXTS if getattr(options, name) != options.parser.get_default(name)]:
            option = given[0].replace("_", "-")
            raise UserError(
                f"--{option} {getattr(options, given[0])}: is for texts, and --tokens has none: leave it out"
            )
        found = embed_tokens(options.run_folder, options.out)
        print(f"{options.out}: {found['tokens']} tokens, vectors of {found['width']} numbers")
        return
    found = embed(options.run_folder, options.data, **{name: getattr(options, name) for name in ("out", *OF_TEXTS)})
    bad = f", {found['bad']} bad and left out" if found["bad"] else ""
    print(f"{options.out}: {found['written']} rows, vectors of {found['width']} numbers{bad}")
