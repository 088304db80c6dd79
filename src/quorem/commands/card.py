"""quorem card."""

import argparse
from pathlib import Path

from quorem.finetuning.checkpoint import refuse_seeds
from quorem.training.card import write_cards


def run(options: argparse.Namespace) -> None:
    """Write README.md beside a run's models."""
    refuse_seeds(Path(options.run_folder))
    for path in write_cards(options.run_folder, license=options.license):
        print(path)
