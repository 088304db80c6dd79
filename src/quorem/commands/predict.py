"""quorem predict."""

import argparse

from quorem.tasks.predict import predict

GIVEN = ("text_column", "out", "format", "bad_rows", "encoding", "delimiter", "quoting", "header")


def run(options: argparse.Namespace) -> None:
    """Predict rows."""
    counts = predict(options.run_folder, options.data, **{name: getattr(options, name) for name in GIVEN})
    found = f"{counts['read']} rows, {counts['predicted']} predicted, {counts['empty']} left blank (empty text)"
    print(f"{options.out}: {found}" + (f", {counts['bad']} bad and left out" if counts["bad"] else ""))
