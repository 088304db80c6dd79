"""quorem config."""

import argparse

from quorem.cli import CONFIGS
from quorem.config.writing import commented_yaml, json_schema
from quorem.files import new_text
from quorem.tasks import TASKS


def run(options: argparse.Namespace) -> None:
    """Write every setting with its default and what it is for."""
    write = json_schema if options.schema else commented_yaml
    text = write(CONFIGS[options.of]())
    if options.out is None:
        print(text, end="")
        return
    with new_text(options.out) as file:
        file.write(text)
    command = f"finetune --task {options.of}" if options.of in TASKS else options.of
    print(f"{options.out}: every setting of quorem {command}")
