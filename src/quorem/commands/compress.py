"""quorem compress."""

import argparse

from quorem.exporting.compress import compress


def run(options: argparse.Namespace) -> None:
    """Write a run's networks with smaller token tables."""
    for line in compress(options.run_folder, options.out, compression=options.compression, budget=options.budget):
        print(line)
    print(f"{options.out}: complete")
