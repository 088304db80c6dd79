"""The exact softmaxes' loss and gradients beside plain PyTorch's, which keeps all scores.

    python benchmarks/softmax.py --vocab 43102 --dim 64 --rows 300 --out result.json

Rounds in which all take turns, one thread, a dense table, bf16 where it is in hardware; seconds are of processor time.
Medians, and the median of the ratios to plain PyTorch's in the same round.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor
from torch.nn import functional as F

import quorem
from quorem.heads import HEADS
from quorem.training.device import autocast_dtype

PLAIN = "plain"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=43_102)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--heads", nargs="+", default=["full", "cosine", "tree"], choices=list(HEADS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dtype = autocast_dtype("auto", torch.device("cpu"))
    table = quorem.embedding(options.vocab, options.dim, kind="dense")
    hidden = torch.randn(options.rows, options.dim, requires_grad=True)
    targets = torch.randint(options.vocab, (options.rows,))
    (weights,) = table.parameters()
    losses: dict[str, Callable[[], Tensor]] = {
        PLAIN: lambda: F.cross_entropy(F.linear(hidden, weights).float(), targets, reduction="sum")
    }
    for name in options.heads:
        head = HEADS[name](table)
        losses[name] = partial(lambda head: head.nll(hidden, targets).sum(), head)
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(1 + options.rounds):
        for name, loss in losses.items():
            weights.grad = hidden.grad = None
            began = time.process_time()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
                found = loss()
            found.backward()
            seconds[name].append(time.process_time() - began)
    rows = {
        name: {
            "seconds": statistics.median(each[1:]),
            "to_plain": statistics.median(one / other for one, other in zip(each[1:], seconds[PLAIN][1:], strict=True)),
            "rounds": each[1:],
        }
        for name, each in seconds.items()
    }
    for name, row in rows.items():
        print(f"{name}: {row['seconds']:.3f} s, {row['to_plain']:.2f} of plain PyTorch's")
    facts = {"command": sys.argv, "torch": torch.__version__, "bf16": dtype is not None, "threads": 1}
    if options.out:
        options.out.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
