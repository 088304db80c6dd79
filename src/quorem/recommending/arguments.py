"""The arguments of `quorem recommend` and `similar`: light, for the command line reads it."""

import argparse
from pathlib import Path


def add_recommend(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem recommend`."""
    parser.add_argument("run_folder", metavar="RUN", help="a run of quorem finetune --task next_item")
    parser.add_argument("data", nargs="+", help="rows of items: files, folders or quoted patterns")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="items for each row (default 10)")
    parser.add_argument("--exclude-seen", action="store_true", help="leave out the items that a row has")
    parser.add_argument("--among", metavar="FILE", help="recommend only the items in its lines")
    parser.add_argument("--text-column", help="the column or key of items (default: the run's, or text)")
    parser.add_argument("--format", default="auto", help="data.format (default: by the names, or the run's)")
    parser.add_argument("--bad-rows", default="error", help="error, or skip: left out and listed beside the output")
    parser.add_argument("--out", required=True, type=Path, help="the file to write: .csv, .tsv, .jsonl or .parquet")


def add_similar(parser: argparse.ArgumentParser) -> None:
    """Those of `quorem similar`."""
    parser.add_argument("run_folder", metavar="RUN", help="any run, or a model folder")
    parser.add_argument("--item", help="as it is written in the data; its neighbours are printed")
    parser.add_argument("--all", action="store_true", help="write the neighbours of every item to --out")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="neighbours (default 10)")
    parser.add_argument("--out", type=Path, help="with --all: the file to write: .csv, .tsv, .jsonl or .parquet")
