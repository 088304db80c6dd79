"""Where a training step of quorem spends its time, and how near the encoders come to the machine's matrix rate.

    python benchmarks/step.py --size small --vocab-size 30000 --out results.json

Each part is timed by itself on one batch, in turn, over several rounds: masking; the generator's encoder, forward and
backward; its softmax, forward and backward; the draw; the discriminator's encoder, forward and backward; clipping and
AdamW. `whole` is the step with AdamW (train.optimizer=adamw). Medians, in milliseconds. A rate is the floating-point
operations of an encoder's matrix products (torch's counter, forward and backward) over its time; `share` is that over
the rate of square products of 2,048 in bf16, measured in the same round.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from choices import choose_otherwise
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from training import BATCHES, MASK_ID, matrix_rates, quorem_step

from quorem.models.masking import mask_tokens
from quorem.plan.presets import NEVER_TARGETS
from quorem.training.optim import build_optimizer, parameter_groups


class Parts:
    """The parts of a step at one size, each a function without arguments."""

    def __init__(self, size: str, vocab_size: int, table: str) -> None:
        rows, length = BATCHES[size]
        torch.manual_seed(0)
        self.module: Any
        self.module, self.step = quorem_step(size, vocab_size, table, length)
        groups = parameter_groups(
            self.module.named_parameters(remove_duplicate=False), lr=5e-4, weight_decay=0.01, decay_embeddings=False
        )
        self.optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
        shares = 1 / torch.arange(1, vocab_size - 4, dtype=torch.float64)
        self.ids = 5 + torch.multinomial(shares, rows * length, replacement=True).view(rows, -1)
        self.masked = mask_tokens(self.ids, special=torch.tensor(NEVER_TARGETS), mask_id=MASK_ID, rate=0.15)
        self.positions = self.masked.chosen.flatten().nonzero().squeeze(-1)
        with self.autocast(), torch.no_grad():
            self.hidden = self.module.generator.hidden_at(self.masked.masked_ids, None, self.positions).detach()
        self.named: dict[str, Callable[[], object]] = {
            "masking": self.masking,
            "generator's encoder": lambda: self.encoder(self.module.generator, self.masked.masked_ids),
            "softmax": self.softmax,
            "draw": self.draw,
            "discriminator's encoder": lambda: self.encoder(self.module.discriminator, self.ids),
            "clipping, AdamW": self.update,
            "whole": self.whole,
        }

    def autocast(self) -> torch.autocast:
        """What training has."""
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def masking(self) -> object:
        """The step's randomness."""
        return mask_tokens(self.ids, special=torch.tensor(NEVER_TARGETS), mask_id=MASK_ID, rate=0.15)

    def encoder(self, network: Any, ids: Tensor) -> None:
        """Embeddings and layers, forward and backward."""
        with self.autocast():
            loss = network.electra(ids).last_hidden_state.float().square().mean()
        loss.backward()

    def softmax(self) -> None:
        """The loss at masked positions, forward and backward."""
        head = self.module.generator.generator_lm_head
        hidden = self.hidden.clone().requires_grad_()
        with self.autocast():
            loss = head.nll(hidden, self.ids.flatten()[self.positions]).mean()
        loss.backward()

    def draw(self) -> object:
        """Replacements."""
        head = self.module.generator.generator_lm_head
        return head.sample(self.hidden, self.masked.uniforms.flatten()[self.positions])

    def update(self) -> None:
        """What follows the backward pass."""
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()

    def whole(self) -> None:
        """A step as in training."""
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.step(0, self.ids)
        loss.backward()
        self.update()


def main() -> None:
    """Time the parts in turn and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=BATCHES, default="small")
    parser.add_argument("--vocab-size", type=int, default=30_000)
    parser.add_argument("--table", default="qr")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="with layers compiled, as train.compile has them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    parts = Parts(options.size, options.vocab_size, options.table)
    parts.whole()  # makes what later steps find made
    encoders = [name for name in parts.named if name.endswith("encoder")]
    operations = {}
    for name in encoders:
        with FlopCounterMode(display=False) as counter:
            parts.named[name]()
        operations[name] = counter.get_total_flops()
    if options.compile:
        choose_otherwise("layers compiled", parts.module, parts.optimizer)
        for part in parts.named.values():
            part()  # compiles
    seconds: dict[str, list[float]] = {name: [] for name in parts.named}
    shares: dict[str, list[float]] = {name: [] for name in encoders}
    rates = []
    for _ in range(options.rounds):
        rates.append(matrix_rates()["bf16"])
        for name, part in parts.named.items():
            began = time.perf_counter()
            part()
            seconds[name].append(time.perf_counter() - began)
        for name in encoders:
            shares[name].append(operations[name] / seconds[name][-1] / 1e9 / rates[-1])
    found = {
        "size": options.size,
        "vocab_size": options.vocab_size,
        "table": options.table,
        "batch": BATCHES[options.size],
        "threads": options.threads,
        "compiled": options.compile,
        "torch": torch.__version__,
        "matrix_gflops": round(statistics.median(rates), 1),
        "milliseconds": {name: round(1000 * statistics.median(times), 2) for name, times in seconds.items()},
        "encoder_share_of_matrix_rate": {name: round(statistics.median(each), 3) for name, each in shares.items()},
    }
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
