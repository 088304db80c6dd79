"""quorem export."""

import argparse

from quorem.exporting.export import export


def run(options: argparse.Namespace) -> None:
    """Write a run's networks in another format."""
    given = {name: getattr(options, name) for name in ("format", "int8", "license")}
    for line in export(options.run_folder, options.out, **given):
        print(line)
    print(f"{options.out}: {options.format}, complete")
