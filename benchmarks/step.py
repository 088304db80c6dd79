"""Where a training step of quorem spends its time, and how near the encoders come to the machine's matrix rate.

    python benchmarks/step.py --size small --vocab-size 30000 --out results.json

Each part is timed by itself on one batch, in turn, over several rounds: masking; the generator's encoder, forward and
backward; its softmax, forward and backward; the draw; the discriminator's encoder, forward and backward; clipping and
AdamW. `whole` is the step as training takes it. Medians, in milliseconds. A rate is the floating-point operations of an
encoder's matrix products (torch's counter, forward and backward) over its time; `share` is that over the rate of square
products of 2,048 in bf16, measured in the same round. `choices` are whole steps with one thing done otherwise, as
ratios to the step as it is in the same round: above 1 is slower.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode
from training import BATCHES, MASK_ID, matrix_rates, quorem_step

import quorem.modeling
from quorem.modeling import Layer, SelfAttention, rotate
from quorem.objective import mask_tokens
from quorem.optim import build_optimizer, parameter_groups
from quorem.presets import NEVER_TARGETS


class Parts:
    """The parts of a step at one size, each a function without arguments."""

    def __init__(self, size: str, vocab_size: int, table: str) -> None:
        rows, length = BATCHES[size]
        torch.manual_seed(0)
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
            generator: Any = self.module.generator
            self.hidden = generator.hidden_at(self.masked.masked_ids, None, self.positions).detach()
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
        head: Any = self.module.generator.generator_lm_head
        hidden = self.hidden.clone().requires_grad_()
        with self.autocast():
            loss = head.nll(hidden, self.ids.flatten()[self.positions]).mean()
        loss.backward()

    def draw(self) -> object:
        """Replacements."""
        head: Any = self.module.generator.generator_lm_head
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


def three_products(self: SelfAttention, hidden: Tensor, bias: Tensor | None, rotation: Tensor | None) -> Tensor:
    """Attention with a product each for queries, keys and values."""
    found = torch.stack([part(hidden) for part in (self.query, self.key, self.value)])
    query, key, value = found.unflatten(-1, (self.num_heads, self.head_size)).transpose(2, 3)
    if rotation is not None:
        query, key = rotate(query, rotation), rotate(key, rotation)
    scores = (query * self.head_size**-0.5) @ key.transpose(-1, -2)
    context = nn.functional.dropout(torch.softmax(scores, dim=-1), self.dropout.p, self.training) @ value
    return context.transpose(1, 2).reshape(*hidden.shape[:2], -1)


def chosen_otherwise(parts: Parts, choice: str) -> None:
    """Do one thing otherwise in a step's networks or its optimizer."""
    layers = [layer for layer in parts.module.modules() if isinstance(layer, Layer)]
    if choice == "fused attention kernel":
        quorem.modeling.WRITTEN_OUT_UP_TO = 0
    elif choice == "three products for q, k, v":
        for layer in layers:
            layer.attention.self.forward = MethodType(three_products, layer.attention.self)
    elif choice == "AdamW not fused":
        parts.optimizer = torch.optim.AdamW(parts.module.parameters(), lr=5e-4, foreach=True)
    elif choice == "layers compiled":
        for layer in layers:
            layer.compile()
    elif choice == "gradient checkpointing":
        for layer in layers:
            layer.gradient_checkpointing = True
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)


CHOICES = (
    "fused attention kernel", "three products for q, k, v", "AdamW not fused", "gradient checkpointing",
    "layers compiled",
)  # fmt: skip


def compare(size: str, vocab_size: int, table: str, rounds: int) -> dict[str, float | str]:
    """Medians of the time of a step with each choice made otherwise, over that of the step as it is."""
    usual, others, written_out = Parts(size, vocab_size, table), dict[str, Parts](), quorem.modeling.WRITTEN_OUT_UP_TO
    found: dict[str, Any] = {}
    for choice in CHOICES:
        others[choice] = Parts(size, vocab_size, table)
        try:
            chosen_otherwise(others[choice], choice)
            others[choice].whole()
            found[choice] = []
        except Exception as error:  # no compiler, for one
            found[choice] = f"failed: {str(error).splitlines()[0]}"
        quorem.modeling.WRITTEN_OUT_UP_TO = written_out
    usual.whole()

    def seconds(parts: Parts) -> float:
        began = time.perf_counter()
        parts.whole()
        return time.perf_counter() - began

    for _ in range(rounds):
        base = seconds(usual)
        for choice, parts in others.items():
            if isinstance(found[choice], list):
                quorem.modeling.WRITTEN_OUT_UP_TO = 0 if choice == "fused attention kernel" else written_out
                found[choice].append(seconds(parts) / base)
                quorem.modeling.WRITTEN_OUT_UP_TO = written_out
    return {name: each if isinstance(each, str) else round(statistics.median(each), 2) for name, each in found.items()}


def main() -> None:
    """Time the parts in turn and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=BATCHES, default="small")
    parser.add_argument("--vocab-size", type=int, default=30_000)
    parser.add_argument("--table", default="qr")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true", help="with layers compiled, as train.compile has them")
    parser.add_argument("--choices", action="store_true", help="also whole steps with one thing done otherwise")
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
        chosen_otherwise(parts, "layers compiled")
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
    if options.choices:
        found["choices"] = compare(options.size, options.vocab_size, options.table, options.rounds)
    text = json.dumps(found, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
