"""quorem prepare."""

import argparse

from quorem.data.prepare import load_prepared, prepare, summary
from quorem.errors import UserError


def run(options: argparse.Namespace) -> None:
    """Make a tokenizer and shards."""
    if options.processes < 1:
        raise UserError(f"--processes {options.processes}: 1 or more is needed")
    prepare(options.settings, options.out, processes=options.processes)
    print(f"{options.out}: {summary(load_prepared(options.out)[1])}")
