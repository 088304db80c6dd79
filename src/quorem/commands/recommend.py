"""quorem recommend."""

import argparse

from quorem.recommending.recommend import recommend

GIVEN = ("out", "top", "exclude_seen", "among", "text_column", "format", "bad_rows")


def run(options: argparse.Namespace) -> None:
    """Write the likeliest next items of rows."""
    counts = recommend(options.run_folder, options.data, **{name: getattr(options, name) for name in GIVEN})
    said = (
        f"{counts['read']} rows, {counts['recommended']} with recommendations, {counts['empty']} left blank (no item "
    )
    said += f"the model knows), {counts['unknown_items']} unknown items passed over"
    print(f"{options.out}: {said}" + (f", {counts['bad']} bad and left out" if counts["bad"] else ""))
