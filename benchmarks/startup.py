r"""Processor seconds of commands that only answer, of fresh interpreters: median and range.

    python benchmarks/startup.py --out results.json

`import torch` stands beside, in the same interleaved run, as what a command that loads it takes at least.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path

CASES = {
    "quorem --version": ["-m", "quorem", "--version"],
    "quorem --help": ["-m", "quorem", "--help"],
    **{
        f"quorem {name} --help": ["-m", "quorem", name, "--help"]
        for name in ("pretrain", "prepare", "finetune", "predict", "describe", "report", "sample", "config", "export")
    },
    "quorem pretrain --help-all": ["-m", "quorem", "pretrain", "--help-all"],
    "quorem pretrian (a usage error)": ["-m", "quorem", "pretrian"],
    "import quorem": ["-c", "import quorem"],
    "import torch": ["-c", "import torch"],
}


def seconds(words: list[str]) -> float:
    """User and system time of a child."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *words], capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time every case in turn, several times over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: dict[str, list[float]] = {name: [] for name in CASES}
    for number in range(options.rounds + 1):
        for name, words in CASES.items():
            taken = seconds(words)
            if number:  # the first round warms the disc's cache
                found[name].append(round(taken, 3))
    for name, times in found.items():
        print(f"{name:<40}{statistics.median(times):>8.2f} s  ({min(times):.2f} to {max(times):.2f})")
    if options.out:
        options.out.write_text(json.dumps({"rounds": options.rounds, "seconds": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
