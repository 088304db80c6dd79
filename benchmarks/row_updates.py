"""What a dense table costs a whole pre-training step, if all of it is updated and if only the rows that were read are.

    python benchmarks/row_updates.py --out results.json

A step is ELECTRA's, with a softmax of several levels (--head): both networks, draws, backward, clipping, optimizer, on
8 x 128 ids of Zipf's law (size small). Arms are a way of updating at a vocabulary size, each in a process of its own;
they take turns, a step each, round after round, so that they see the same machine. Times are of the process, so that
other jobs count little; figures are medians over rounds, ratios are to the same way at the smallest vocabulary, in the
same round.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from memory import peak_mb

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig
from quorem.models.electra import total_loss
from quorem.models.masking import mask_tokens
from quorem.plan.plan import Plan
from quorem.plan.presets import NEVER_TARGETS
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra, build_pretraining_optimizer
from quorem.training import gradients
from quorem.training.device import autocast_dtype
from quorem.training.row_adam import UPDATES

ROWS, TIME, WARM_UP = 8, 128, 3


def steps(updates: str, vocab_size: int, *, head: str, disentangled: bool) -> None:
    """Take a step for each line of input and print its seconds; at last, what the process needed."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = {
        "size": "small",
        "vocab_size": vocab_size,
        "embedding": {"kind": "dense", "assignment": "frequency"},
        "head": {"kind": head},
        "disentangled_embeddings": disentangled,
    }
    settings = {"model": model, "data": {"max_length": TIME}, "train": {"table_updates": updates}}
    config = resolve(from_mapping(PretrainConfig, settings))
    module = build_electra(Plan.of(config), torch.arange(vocab_size, 0, -1)).train()
    optimizer: Any = build_pretraining_optimizer(module, config)
    dtype = autocast_dtype("auto", torch.device("cpu"))
    shares = (1 / torch.arange(1, vocab_size - 4, dtype=torch.float64)).cumsum(0)
    for number, _ in enumerate(sys.stdin):
        rng = torch.Generator().manual_seed(number)
        drawn = torch.rand(ROWS * TIME, generator=rng, dtype=torch.float64) * shares[-1]
        ids = 5 + torch.searchsorted(shares, drawn).view(ROWS, TIME)
        masked = mask_tokens(ids, special=torch.tensor(NEVER_TARGETS), mask_id=4, rate=0.15, rng=rng)
        began = time.process_time()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            outcome = module(*masked.inputs())
        loss = total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
        loss.backward()
        gradients.clip(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(time.process_time() - began, flush=True)
        assert loss.isfinite()
    state = sum(value.nbytes for each in optimizer.state.values() for value in each.values())
    print(json.dumps({"peak_mb": peak_mb(), "state_mb": state / 2**20, "bf16": dtype is not None}))


def main() -> None:
    """Let the arms take turns and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--updates", nargs="+", choices=UPDATES, default=["whole", "rows"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--head", choices=["tree", "two_level"], default="tree")
    parser.add_argument("--disentangled", action="store_true", help="a second table, of differences")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("UPDATES", "VOCAB_SIZE"), help="be an arm")
    options = parser.parse_args()
    if options.one:
        steps(options.one[0], int(options.one[1]), head=options.head, disentangled=options.disentangled)
        return
    arms = [(updates, size) for size in options.vocab_sizes for updates in options.updates]
    more = ["--head", options.head, *(["--disentangled"] if options.disentangled else [])]
    running: dict[tuple[str, int], subprocess.Popen[str]] = {
        arm: subprocess.Popen(
            [sys.executable, __file__, "--one", arm[0], str(arm[1]), *more],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for arm in arms
    }  # fmt: skip
    seconds: dict[tuple[str, int], list[float]] = {arm: [] for arm in arms}
    for _ in range(WARM_UP + options.rounds):
        for arm, process in running.items():
            assert process.stdin
            assert process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            seconds[arm].append(float(process.stdout.readline()))
    rows = []
    for (updates, size), process in running.items():
        said, _ = process.communicate()
        mine, least = (seconds[updates, each][WARM_UP:] for each in (size, min(options.vocab_sizes)))
        ratios = [one / other for one, other in zip(mine, least, strict=True)]
        found = {"updates": updates, "vocab_size": size, "seconds": statistics.median(mine)}
        rows.append(found | {"ratio": statistics.median(ratios), **json.loads(said), "rounds": mine})
        print({key: value for key, value in rows[-1].items() if key != "rounds"})
    facts = {"command": sys.argv, "torch": torch.__version__, "threads": 1, "batch": [ROWS, TIME], "clock": "process"}
    if options.out:
        options.out.write_text(json.dumps(facts | {"rows": rows}, indent=1))


if __name__ == "__main__":
    main()
