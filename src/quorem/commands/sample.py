"""quorem sample."""

import argparse

from quorem.errors import UserError
from quorem.samples import entropies, write_reviews, write_sessions

CATALOGUE_SIZE = 100_000  # items, if not given


def run(options: argparse.Namespace) -> None:
    """Write a synthetic sample."""
    if options.kind == "items":
        vocab_size = CATALOGUE_SIZE if options.vocab_size is None else options.vocab_size
        write_sessions(options.out, rows=options.rows, vocab_size=vocab_size, seed=options.seed)
        known = entropies(vocab_size)
        print(f"{options.out}: {options.rows} synthetic sessions of items from a catalogue of {vocab_size:,}")
        print(
            f"to be learned: an item costs {known.item:.3f} nats by frequency alone and "
            f"{known.item_given_cluster:.3f} given its session's cluster, the least any model can reach"
        )
        return
    if options.vocab_size is not None:
        raise UserError(f"--vocab-size {options.vocab_size}: only sample items has it: leave it out for reviews")
    write_reviews(options.out, rows=options.rows, seed=options.seed)
    print(f"{options.out}: {options.rows} synthetic reviews, columns review,sentiment")
