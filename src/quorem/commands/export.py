"""quorem export."""

import argparse

from quorem.export.export import export


def run(options: argparse.Namespace) -> None:
    """Write a run's networks in another format."""
    for line in export(options.run_folder, options.out, format=options.format, int8=options.int8):
        print(line)
    print(f"{options.out}: {options.format}, complete")
