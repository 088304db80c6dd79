"""quorem pretrain."""

import argparse

from quorem.pretraining.pretrain import dry_run, pretrain


def run(options: argparse.Namespace) -> None:
    """Pre-train, or say what that would take."""
    if options.dry_run:
        print(dry_run(options.settings))
    else:
        print(pretrain(options.settings, options.out)["verdict"])
