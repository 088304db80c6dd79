"""quorem finetune --task next_item."""

import argparse
from dataclasses import replace
from typing import Any

from quorem.recommending.finetune import dry_run_next_item, finetune_next_item

MEASURES = ("hr@1", "hr@5", "hr@10", "hr@20", "ndcg@10", "ndcg@20", "mrr@20", "coverage@20", "popularity@20")


def run(options: argparse.Namespace) -> None:
    """Fine-tune, or say what that would take."""
    config = replace(options.settings, pretrained=options.run_folder)
    if options.from_scratch:
        config = replace(config, next_item=replace(config.next_item, start="random"))
    print(dry_run_next_item(config) if options.dry_run else table(finetune_next_item(config, options.out)))


def table(result: dict[str, Any]) -> str:
    """The measures of a run beside those of the baselines on the same rows, a line each."""
    head = f"{result['test']['rows']:,} rows, among all items"
    lines = [f"{head:<36}" + "".join(f"{name:>14}" for name in MEASURES)]
    for name, found in {"this model": result["test"], **result["baselines"]}.items():
        lines.append(f"{name:<36}" + "".join(f"{found[each]:>14.4f}" for each in MEASURES))
    return "\n".join(lines)
