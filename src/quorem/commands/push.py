"""quorem push."""

import argparse

from quorem.exporting.push import push


def run(options: argparse.Namespace) -> None:
    """Upload a model folder."""
    print(push(options.folder, options.name, public=options.public, license=options.license))
