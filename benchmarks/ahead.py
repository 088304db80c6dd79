"""What making batches a step ahead is worth: training steps with it and without, in turn.

    quorem prepare reviews.csv --text-column review --out shards model.vocab_size=30000
    python benchmarks/ahead.py shards --out results.json model.size=tiny model.embedding.kind=qr

Milliseconds a step of `quorem.training.loop.fit`, batches included, for each way of making rows: medians over rounds,
and the ratio with / without in the same round, below 1 being faster.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import quorem.training.loop
from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import load_prepared
from quorem.data.rows import ROWS
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.arrangement import arrange
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.training.loop import fit
from quorem.training.run_folder import Run

WARM_UP, TIMED = 5, 30  # steps
AHEAD = quorem.training.loop.prefetch


def when_due(make: Any, steps: Any) -> Any:
    """What `prefetch` gives, made when it is asked for."""
    return ((step, make(step)) for step in steps)


def steps_of(config: PretrainConfig) -> Any:
    """A function that takes TIMED steps and gives the milliseconds of one."""
    tokenizer, shards = load_prepared(str(config.data.path))
    settings = replace(config.train, log_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), {})
        (Path(folder) / "data").mkdir()
        plan = Plan.of(config, len(tokenizer))
        program = PretrainProgram(plan, tokenizer, shards, arrange(plan, run, tokenizer, shards))
    optimizer = build_pretraining_optimizer(program.module, config)

    def take(number: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            fit(program, optimizer, settings=settings, total_steps=number, schedule="constant",
                run=Run(Path(folder), {}))  # fmt: skip
            return 1000 * (time.perf_counter() - began) / number

    take(WARM_UP)
    return lambda: take(TIMED)


def main() -> None:
    """Measure every way of making rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {"settings": options.settings, "threads": options.threads, "torch": torch.__version__}
    for rows in ROWS:
        take = steps_of(
            resolve(override(PretrainConfig(), [f"data.path={options.shards}", f"data.rows={rows}", *options.settings]))
        )
        rounds = []
        for _ in range(options.rounds):
            found = {}
            for name, way in (("ahead", AHEAD), ("when due", when_due)):
                quorem.training.loop.prefetch = way
                found[name] = take()
            rounds.append(found)
        ratios = [found["ahead"] / found["when due"] for found in rounds]
        results[rows] = {name: round(statistics.median(found[name] for found in rounds), 1) for name in rounds[0]}
        results[rows] |= {
            "ratio": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }
        print(rows, results[rows], flush=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
