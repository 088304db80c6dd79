"""quorem finetune."""

import argparse
from dataclasses import replace
from typing import Any

from quorem.tasks import dry_run, finetune, load_task


def run(options: argparse.Namespace) -> None:
    """Fine-tune, or say what that would take."""
    task, config = load_task(options.task), replace(options.settings, pretrained=options.run_folder)
    if options.from_scratch:
        config = task.from_scratch(config)
    if options.dry_run:
        print(dry_run(config))
    elif options.seeds is not None:
        found = finetune(config, options.out, seeds=options.seeds)
        print("\n".join([spread_table(found), *task.said_of_baselines(found)]))
    else:
        print(task.said(finetune(config, options.out)))


NOT_SHOWN = ("epoch", "last.", "validation.")  # of each seed; result.json has them


def spread_table(result: dict[str, Any]) -> str:
    """What --seeds found: each score's mean and spread, and that of the averaged model."""
    lines = [f"{'over ' + str(len(result['seeds'])) + ' seeds':<24}{'mean':>12}{'std':>12}{'min':>12}{'max':>12}"]
    lines[0] += f"{'averaged':>12}" if "ensemble" in result else ""
    for name, mean in result["mean"].items():
        if name.startswith(NOT_SHOWN):
            continue
        spread = result["spread"][name]
        line = f"{name:<24}{mean:>12.4f}" + "".join(f"{spread[key]:>12.4f}" for key in ("std", "min", "max"))
        averaged = result.get("ensemble", {}).get(name)
        lines.append(line + (f"{averaged:>12.4f}" if isinstance(averaged, int | float) else ""))
    return "\n".join(lines)
