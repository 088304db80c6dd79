"""Real tokens a second and share of padding of each way to make rows of documents.

    python benchmarks/rows.py shards/ --max-length 64 --batch-size 32 --out results.json

Whole pre-training steps (size tiny, qr, bf16, AdamW) on a folder of `quorem prepare`; ways take turns, round after
round, and the figures are medians over rounds of real tokens, [CLS] and [SEP] included, a second of processor time, and
ratios to packed in the same round. Padding is that of a whole epoch, or of its first 2,000 batches. `shuffled` is the
plain way to compare with: a row for each document, in any order, padded to the longest of its batch.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.batches import EpochOrder
from quorem.data.prepare import load_prepared
from quorem.data.rows import ROWS, DocumentRows
from quorem.models.masking import real_tokens
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import PretrainProgram
from quorem.training.optim import build_optimizer, parameter_groups

STEPS, WARM_UP, BATCHES = 20, 3, 2_000


class ShuffledRows(DocumentRows):
    """A row for each document, lengths mixed."""

    def order(self, *, batch_size: int, seed: int, among: np.ndarray | None = None) -> EpochOrder:
        """Batches of `batch_size` rows."""
        return EpochOrder(len(self) if among is None else len(among), batch_size=batch_size, seed=seed)


def padding(program: PretrainProgram) -> float:
    """Share of positions that are padding."""
    real = total = 0
    for step in range(min(BATCHES, program.order.steps_per_epoch)):
        input_ids, mask = program.rows.batch(program.order.indices(step))
        total += input_ids.numel()
        real += input_ids.numel() if mask is None else int(real_tokens(mask).sum())
    return 1 - real / total


def steps(program: PretrainProgram, optimizer: torch.optim.Optimizer, start: int, number: int) -> float:
    """Real tokens a second of processor time."""
    began, tokens = time.process_time(), 0
    for step in range(start, start + number):
        for batch in program.micro_batches(step, rank=0, num_processes=1):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = program.loss(program.module, batch)
            loss.backward()
            tokens += batch.num_tokens
        optimizer.step()
        optimizer.zero_grad()
    return tokens / (time.process_time() - began)


def main() -> None:
    """Measure all ways on one folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path)
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer, shards = load_prepared(options.prepared)
    ways: dict[str, Any] = {**ROWS, "shuffled": ShuffledRows}
    ROWS["shuffled"] = ShuffledRows
    programs, optimizers = dict[str, PretrainProgram](), dict[str, torch.optim.Optimizer]()
    found: dict[str, list[float]] = {way: [] for way in ways}
    results: dict[str, Any] = {"command": sys.argv, "documents": shards.meta.num_documents}
    for way in ways:
        given = [f"data.rows={way}", f"data.max_length={options.max_length}", f"train.batch_size={options.batch_size}"]
        fixed = ["model.size=tiny", "model.embedding.kind=qr", "model.embedding.assignment=frequency"]
        config = resolve(override(PretrainConfig(), [*given, *fixed]))
        program = PretrainProgram(Plan.of(config, len(tokenizer)), tokenizer, shards)
        groups = parameter_groups(
            program.module.named_parameters(remove_duplicate=False), lr=5e-4, weight_decay=0.01, decay_embeddings=False
        )
        programs[way] = program
        optimizers[way] = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
        results[way] = {"padding": padding(program), "batches_an_epoch": program.order.steps_per_epoch}
        steps(program, optimizers[way], 0, WARM_UP)
    for number in range(options.rounds):
        for way in ways:
            found[way].append(steps(programs[way], optimizers[way], WARM_UP + number * STEPS, STEPS))
    for way, rates in found.items():
        ratios = [rate / first for rate, first in zip(rates, found["packed"], strict=True)]
        results[way] |= {"tokens_per_second": statistics.median(rates), "ratio": statistics.median(ratios)}
        print(way, results[way])
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
