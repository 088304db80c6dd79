"""Whole pre-training steps of quorem beside those of other implementations, each in its own process, in turn.

    python benchmarks/training.py --size origin --vocab-size 30000 --out results.json

A step is ELECTRA's: mask, generator, draw, discriminator, backward, clipping, AdamW, on the same batches of Zipf ids,
all real tokens. `plain` is the usual script on transformers' ElectraForMaskedLM and ElectraForPreTraining (embeddings
tied, scores for every position, loss at the masked ones), `electra-pytorch` 0.1.2 is that package around the same two
networks, `simpletransformers` 0.70.8 and `txtai` 9.14.0 their models for ELECTRA around them (`pip install --no-deps
electra-pytorch==0.1.2 simpletransformers==0.70.8 txtai==9.14.0`). Dropout is what each has by default: 0.1 in these,
that of the preset in quorem's; `no dropout` arms have none. transformers divides hidden_size among its heads, so at
size origin its attention is half as wide as quorem's (128, not 256). `--choices fp32` measures instead, beside
quorem's step as it is, steps with one thing done otherwise (`quorem qr fp32, gradient checkpointing`). Figures are
medians over rounds of tokens a second of wall time and ratios to `plain fp32`, for choices to the step as it is, in
the same round; `matrix` is the machine's rate for square products of 2,048.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from choices import CHOICES, choose_otherwise, environment, micro_batches
from memory import peak_mb
from torch import Tensor, nn
from transformers import ElectraConfig, ElectraForMaskedLM, ElectraForPreTraining

from quorem.config.loading import from_mapping
from quorem.config.settings import PretrainConfig
from quorem.models.electra import total_loss
from quorem.models.masking import mask_tokens
from quorem.plan.plan import Plan
from quorem.plan.presets import NEVER_TARGETS, PRESETS, network_configs
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra
from quorem.training.optim import build_optimizer, parameter_groups

BATCHES = {"tiny": (8, 128), "origin": (8, 256), "small": (8, 128), "base": (4, 128)}  # rows, tokens in a row
ARMS = (
    *(f"quorem {table} {precision}" for table in ("dense", "qr") for precision in ("fp32", "bf16")),
    *(f"plain {precision}{more}" for precision in ("fp32", "bf16") for more in ("", " no dropout")),
    *(
        f"{peer} {precision}"
        for peer in ("electra-pytorch", "simpletransformers", "txtai")
        for precision in ("fp32", "bf16")
    ),
)
BASELINE = "plain fp32"
CHOSEN = {precision: f"quorem qr {precision}" for precision in ("fp32", "bf16")}
OTHERWISE = tuple(f"{arm}, {choice}" for arm in CHOSEN.values() for choice in CHOICES)
MASK_ID, MATRIX = 4, 2048
Step = Callable[[int, Tensor], Tensor]


def quorem_step(size: str, vocab_size: int, table: str, length: int) -> tuple[nn.Module, Step]:
    """Ours, with the settings of the preset and the head that `auto` gives."""
    model = {"size": size, "vocab_size": vocab_size, "embedding": {"kind": table, "assignment": "frequency"}}
    config = resolve(from_mapping(PretrainConfig, {"model": model, "data": {"max_length": length}}))
    module = build_electra(Plan.of(config), torch.arange(vocab_size, 0, -1)).train()

    def step(number: int, ids: Tensor) -> Tensor:
        rng = torch.Generator().manual_seed(number)
        masked = mask_tokens(ids, special=torch.tensor(NEVER_TARGETS), mask_id=MASK_ID, rate=0.15, rng=rng)
        outcome = module(*masked.inputs())
        return total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)

    return module, step


def transformers_networks(size: str, vocab_size: int, length: int, dropout: float) -> tuple[nn.Module, nn.Module]:
    """Generator and discriminator of transformers, of the preset's sizes, with one embedding."""
    config = resolve(from_mapping(PretrainConfig, {"model": {"size": size, "vocab_size": vocab_size}}))
    found = []
    sizes = network_configs(config.model, vocab_size=vocab_size, max_length=length)
    for kind, ours in zip((ElectraForMaskedLM, ElectraForPreTraining), sizes, strict=True):
        names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "embedding_size")
        theirs = ElectraConfig(
            vocab_size=vocab_size, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout,
            **{name: getattr(ours, name) for name in names},
        )  # fmt: skip
        found.append(kind(theirs))
    generator, discriminator = found
    discriminator.electra.embeddings = generator.electra.embeddings
    generator.generator_lm_head.weight = generator.electra.embeddings.word_embeddings.weight
    return generator, discriminator


def plain_step(size: str, vocab_size: int, length: int, dropout: float) -> tuple[nn.Module, Step]:
    """The usual script."""
    generator, discriminator = transformers_networks(size, vocab_size, length, dropout)

    def step(number: int, ids: Tensor) -> Tensor:
        torch.manual_seed(number)
        masked, labels = masked_at_random(ids)
        chosen = labels != -100
        mlm, logits = generator(masked, labels=labels)[:2]
        with torch.no_grad():
            drawn = torch.multinomial(torch.softmax(logits[chosen].float(), -1), 1).squeeze(-1)
        replaced = ids.masked_scatter(chosen, drawn)
        return mlm + 50 * discriminator(replaced, labels=(replaced != ids).long()).loss

    return nn.ModuleList([generator, discriminator]).train(), step


class Logits(nn.Module):
    """A network of transformers that gives its scores alone, as electra-pytorch wants it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> Tensor:
        """Its scores."""
        return self.network(ids).logits


def electra_pytorch_step(size: str, vocab_size: int, length: int) -> tuple[nn.Module, Step]:
    """The package, as its README has it."""
    from electra_pytorch import Electra

    networks = map(Logits, transformers_networks(size, vocab_size, length, dropout=0.1))
    trainer = Electra(*networks, mask_token_id=MASK_ID, pad_token_id=0, mask_prob=0.15).train()

    def step(number: int, ids: Tensor) -> Tensor:
        torch.manual_seed(number)
        return trainer(ids).loss

    return trainer, step


def without_fused_attention(network: Any) -> None:
    """For a peer whose class does not declare that it can do with any other."""
    network.config._attn_implementation = "eager"


def simpletransformers_step(size: str, vocab_size: int, length: int) -> tuple[nn.Module, Step]:
    """Its model for ELECTRA, around the same networks; its trainer masks beforehand and adds the losses so."""
    from simpletransformers.custom_models.models import ElectraForLanguageModelingModel

    generator, discriminator = transformers_networks(size, vocab_size, length, dropout=0.1)
    for network in (generator, discriminator):
        without_fused_attention(network)
    module = ElectraForLanguageModelingModel(
        discriminator.config, generator_config=generator.config, discriminator_config=discriminator.config
    ).train()

    def step(number: int, ids: Tensor) -> Tensor:
        torch.manual_seed(number)
        masked, labels = masked_at_random(ids)
        mlm, rtd = module(masked, labels)[:2]
        return mlm + 50 * rtd

    return module, step


def txtai_step(size: str, vocab_size: int, length: int) -> tuple[nn.Module, Step]:
    """Its model for token detection, around the same networks."""
    from txtai.models.tokendetection import TokenDetection

    networks = transformers_networks(size, vocab_size, length, dropout=0.1)
    for network in networks:
        without_fused_attention(network)
    module = TokenDetection(*networks, tokenizer=None).train()

    def step(number: int, ids: Tensor) -> Tensor:
        torch.manual_seed(number)
        return module(*masked_at_random(ids))[0]

    return module, step


def masked_at_random(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Ids with [MASK] at 15 % of their places, and labels there."""
    chosen = torch.rand(ids.shape) < 0.15
    return ids.masked_fill(chosen, MASK_ID), ids.masked_fill(~chosen, -100)


def build(arm: str, size: str, vocab_size: int, length: int) -> tuple[nn.Module, Step]:
    """The networks of an arm, and from a step's number and ids int64 (batch, time) to its loss."""
    if arm.startswith("quorem"):
        return quorem_step(size, vocab_size, arm.split()[1], length)
    if arm.startswith("plain"):
        return plain_step(size, vocab_size, length, 0.0 if "no dropout" in arm else 0.1)
    peers = {"simpletransformers": simpletransformers_step, "txtai": txtai_step}
    return peers.get(arm.split()[0], electra_pytorch_step)(size, vocab_size, length)


def measure(arm: str, size: str, vocab_size: int, steps: int) -> dict[str, float]:
    """Tokens a second and megabytes of one arm, in this process."""
    arm, _, choice = arm.partition(", ")
    rows, length = BATCHES[size]
    torch.manual_seed(0)
    module, step = build(arm, size, vocab_size, length)
    if arm.startswith("quorem"):
        groups = parameter_groups(
            module.named_parameters(remove_duplicate=False), lr=5e-4, weight_decay=0.01, decay_embeddings=False
        )
        optimizer: Any = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
        optimizer = choose_otherwise(choice, module, optimizer)
    else:
        optimizer = torch.optim.AdamW(module.parameters(), lr=5e-4, weight_decay=0.01)
    shares = 1 / torch.arange(1, vocab_size - 4, dtype=torch.float64)
    seconds = []
    for number in range(1 + steps):
        rng = torch.Generator().manual_seed(number)
        ids = 5 + torch.multinomial(shares.expand(1, -1), rows * length, replacement=True, generator=rng).view(rows, -1)
        began = time.perf_counter()
        for part in ids.chunk(micro_batches(choice)):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled="bf16" in arm):
                loss = step(number, part)
            loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
        assert loss.isfinite()
    return {"tokens_per_second": rows * length / statistics.median(seconds[1:]), "peak_mb": peak_mb()}


def matrix_rates() -> dict[str, float]:
    """GFLOP a second of square products."""
    found = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(MATRIX, MATRIX).to(dtype) for _ in range(2))
        seconds = []
        for _ in range(6):
            began = time.perf_counter()
            left @ right
            seconds.append(time.perf_counter() - began)
        found[name] = 2 * MATRIX**3 / min(seconds) / 1e9
    return found


def main() -> None:
    """Run the arms in turn and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=BATCHES, default="origin")
    parser.add_argument("--vocab-size", type=int, default=30_000)
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, *OTHERWISE], default=list(ARMS), metavar="ARM")
    parser.add_argument("--choices", choices=CHOSEN, help="measure quorem's choices in this precision instead of arms")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    assert options.size in PRESETS
    torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(measure(options.one, options.size, options.vocab_size, options.steps)))
        return
    if options.choices:
        chosen = CHOSEN[options.choices]
        options.arms = [chosen, *(arm for arm in OTHERWISE if arm.startswith(chosen))]
    rounds: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        rounds.append({"matrix": matrix_rates()})
        for arm in options.arms:
            command = [sys.executable, *sys.argv, "--one", arm]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment(arm.partition(", ")[2])
            )
            if done.returncode:
                rounds[-1][arm] = {"failed": (done.stderr.splitlines() or ["killed"])[-1]}
            else:
                rounds[-1][arm] = json.loads(done.stdout.splitlines()[-1])
            print(arm, rounds[-1][arm], flush=True)
        if options.out:
            facts = {"command": sys.argv[1:], "torch": torch.__version__, "threads": options.threads}
            options.out.write_text(json.dumps(facts | {"rounds": rounds, "medians": medians(rounds)}, indent=1))
    for arm, found in medians(rounds).items():
        print(arm, found)


def medians(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of every arm that ran, over rounds; `ratio` is to the baseline of the same round."""
    found = {}
    for arm in (*ARMS, *OTHERWISE):
        baseline = arm.partition(", ")[0] if arm in OTHERWISE else BASELINE
        ran = [one for one in rounds if "tokens_per_second" in one.get(arm, {})]
        if not ran:
            continue
        found[arm] = {
            key: round(statistics.median(one[arm][key] for one in ran), 1) for key in ("tokens_per_second", "peak_mb")
        }
        pairs = [(one[arm], one[baseline]) for one in ran if "tokens_per_second" in one.get(baseline, {})]
        if pairs:
            ratios = [mine["tokens_per_second"] / base["tokens_per_second"] for mine, base in pairs]
            found[arm]["ratio"] = round(statistics.median(ratios), 2)
    return found


if __name__ == "__main__":
    main()
