"""quorem merge."""

import argparse

from quorem.data.prepare import load_prepared, merge, summary


def run(options: argparse.Namespace) -> None:
    """Join prepared folders."""
    merge(options.parts, options.out)
    print(f"{options.out}: {summary(load_prepared(options.out)[1])}")
