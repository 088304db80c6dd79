"""Pre-train an ELECTRA model: the original repository's script, with its arguments (see docs/original.md)."""

import sys

from quorem.cli import pretraining_script

if __name__ == "__main__":
    sys.exit(pretraining_script())
