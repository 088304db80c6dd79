"""quorem report."""

import argparse

from quorem.reporting.report import report


def run(options: argparse.Namespace) -> None:
    """Write a page about runs."""
    print(report(options.run_folders, options.out))
