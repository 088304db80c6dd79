"""quorem finetune."""

import argparse
from dataclasses import replace
from typing import Any

from quorem.finetuning.finetune import dry_run, finetune
from quorem.training.confusions import table


def run(options: argparse.Namespace) -> None:
    """Fine-tune, or say what that would take."""
    if options.task == "next_item":
        from quorem.commands import next_item

        return next_item.run(options)
    config = replace(options.settings, pretrained=options.run_folder)
    if options.from_scratch:
        config = replace(config, classifier=replace(config.classifier, from_scratch=True))
    if options.dry_run:
        print(dry_run(config))
    else:
        show_scores(finetune(config, options.out))


def show_scores(result: dict[str, Any]) -> None:
    """Print what a fine-tuned run gave."""
    print(
        f"held-out accuracy {result['accuracy']:.4f}, macro f1 {result['macro_f1']:.4f} "
        f"(best of the epochs; last: {result['last']['accuracy']:.4f})"
    )
    if "frozen_accuracy" in result:
        print(f"with the encoder frozen: {result['frozen_accuracy']:.4f}")
    print(table(result))
