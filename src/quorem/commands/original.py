"""pretraining.py and FineTuning.py, the original repository's scripts."""

import argparse

from quorem.origin import finetune_original, pretrain_original
from quorem.tasks import load_task


def pretrain(options: argparse.Namespace) -> None:
    """Pre-train as the original does."""
    print(pretrain_original(**vars(options))["verdict"])


def finetune(options: argparse.Namespace) -> None:
    """Fine-tune as the original does."""
    print(load_task("classification").said(finetune_original(**vars(options))))
