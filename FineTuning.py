"""Fine-tune a pre-trained model: the original repository's script, with its arguments (see docs/original.md)."""

import sys

from quorem.cli import finetuning_script

if __name__ == "__main__":
    sys.exit(finetuning_script())
