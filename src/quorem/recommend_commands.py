"""The arguments of `quorem recommend` and `quorem similar`, of `finetune --task`, and what these commands say."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from quorem.config import leaves
from quorem.errors import UserError
from quorem.next_item_settings import NextItemConfig

TASKS = ("classification", "next_item")


def add_task(parser: argparse.ArgumentParser) -> None:
    """--task of `quorem finetune`, and the settings of the one that has its own."""
    parser.add_argument(
        "--task", choices=TASKS, default=TASKS[0], help="classification (default), or next_item: a recommender"
    )
    lines = [f"  {key}={'' if value is None else value}\n      {text}" for key, value, text in leaves(NextItemConfig())]
    parser.epilog = f"{parser.epilog or ''}\n\nsettings of --task next_item:\n" + "\n".join(lines)


def add_commands(add: Callable[..., argparse.ArgumentParser], show: Callable[[str], None]) -> None:
    """The commands recommend and similar.

    Args:
        add: makes a command's parser of its name, what it does, and what runs it.
        show: prints what a command says.
    """
    what = "write the likeliest next items beside rows of items"
    add_recommend(add("recommend", what, lambda options: show(recommended(options))))
    what = "find the items whose vectors are most alike"
    add_similar(add("similar", what, lambda options: show(similar_items(options))))


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


def recommended(options: argparse.Namespace) -> str:
    """Run `quorem recommend`; what it says."""
    from quorem.recommend import recommend

    names = ("out", "top", "exclude_seen", "among", "text_column", "format", "bad_rows")
    counts = recommend(options.run_folder, options.data, **{name: getattr(options, name) for name in names})
    said = (
        f"{counts['read']} rows, {counts['recommended']} with recommendations, {counts['empty']} left blank (no item "
    )
    said += f"the model knows), {counts['unknown_items']} unknown items passed over"
    return f"{options.out}: {said}" + (f", {counts['bad']} bad and left out" if counts["bad"] else "")


def similar_items(options: argparse.Namespace) -> str:
    """Run `quorem similar`; what it says."""
    from quorem.similar import similar, similar_of_all

    if options.all == (options.item is not None):
        raise UserError("--item ITEM or --all is needed, one of the two")
    if options.all != (options.out is not None):
        raise UserError("--out FILE goes with --all, and --all with it: --item alone prints")
    if options.all:
        return (
            f"{options.out}: the neighbours of {similar_of_all(options.run_folder, options.out, top=options.top)} items"
        )
    return "\n".join(
        f"{item}\t{cosine:.4f}" for item, cosine in similar(options.run_folder, options.item, top=options.top)
    )


def next_item(options: argparse.Namespace, configured: Callable[[argparse.Namespace, Any], NextItemConfig]) -> str:
    """Run `quorem finetune --task next_item`; what it says.

    Args:
        options: of the command.
        configured: makes settings of them and of a base.
    """
    from quorem.finetune_next_item import dry_run_next_item, finetune_next_item

    if options.label_column is not None:
        raise UserError(f"--label-column {options.label_column}: --task next_item has no labels: leave it out")
    config = replace(configured(options, NextItemConfig()), pretrained=options.run_folder)
    if options.from_scratch:
        config = replace(config, next_item=replace(config.next_item, start="random"))
    return str(dry_run_next_item(config)) if options.dry_run else scores(finetune_next_item(config, options.out))


def scores(result: dict[str, Any]) -> str:
    """The scores of a next-item run beside those of the baselines, a line each."""
    names = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@10", "ndcg@20", "mrr@20", "coverage@20", "popularity@20")
    lines = [f"{result['test']['rows']:,} rows, ranked among all items{'':<10}" + "".join(f"{n:>14}" for n in names)]
    width = len(lines[0]) - 14 * len(names)
    for name, found in {"this model": result["test"], **result["baselines"]}.items():
        lines.append(f"{name:<{width}}" + "".join(f"{found[each]:>14.4f}" for each in names))
    return "\n".join(lines)
