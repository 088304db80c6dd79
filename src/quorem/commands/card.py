"""quorem card."""

import argparse

from quorem.training.card import write_cards


def run(options: argparse.Namespace) -> None:
    """Write README.md beside a run's models."""
    for path in write_cards(options.run_folder, license=options.license):
        print(path)
