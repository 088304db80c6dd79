"""quorem similar."""

import argparse

from quorem.errors import UserError
from quorem.vectors.similar import similar, similar_of_all


def run(options: argparse.Namespace) -> None:
    """Print the neighbours of an item, or write those of all."""
    if options.all == (options.item is not None):
        raise UserError("--item ITEM or --all is needed, one of the two")
    if options.all != (options.out is not None):
        raise UserError("--out FILE goes with --all, and --all with it: --item alone prints")
    if options.all:
        number = similar_of_all(options.run_folder, options.out, top=options.top)
        print(f"{options.out}: the neighbours of {number} items")
        return
    for item, cosine in similar(options.run_folder, options.item, top=options.top):
        print(f"{item}\t{cosine:.4f}")
