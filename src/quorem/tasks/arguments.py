"""The arguments that choose a task: light, for the command line reads them."""

import argparse
from collections.abc import Callable
from typing import Any

from quorem.tasks import TASKS


def add_task(parser: argparse.ArgumentParser, epilog: Callable[[Any, str], str]) -> None:
    """--task of `quorem finetune`, and --seeds.

    Args:
        parser: of the command.
        epilog: the end of its help, from a task's settings and name.
    """

    class Choose(argparse.Action):
        """Which task; its settings are what may be given, and what --help after it shows."""

        def __call__(self, parser: argparse.ArgumentParser, options: argparse.Namespace, task: Any, *_: Any) -> None:
            options.task, options.base = task, TASKS[task].settings()
            parser.epilog = epilog(options.base, task)

    lines = "; ".join(f"{name} ({line.what})" for name, line in TASKS.items())
    parser.add_argument(
        "--task",
        choices=tuple(TASKS),
        default="classification",
        action=Choose,
        help=f"{lines}; default classification; --help after it shows its settings",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="train N times, into seed-0, seed-1, ...: mean and spread of their scores, and those of their average",
    )
