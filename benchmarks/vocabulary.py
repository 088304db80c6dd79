"""What a vocabulary costs: parameters, peak memory and time of whole pre-training steps, each arm in its own process.

    python benchmarks/vocabulary.py --out results.json
    python benchmarks/vocabulary.py --vocab-sizes 30000 10000000 --arms qr+two_level --rounds 5 --out results.json

A step is ELECTRA's: generator at masked positions, exact draws, discriminator, backward, clipping, AdamW, on random ids
(8 x 128, size small). Arms take turns, round after round; figures are medians, and times also ratios to qr+two_level at
30,000 tokens in the same round. An arm that would need more than --memory GB is left out, and the table says so.
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
from quorem.pretraining.program import build_electra
from quorem.training.device import autocast_dtype
from quorem.training.optim import build_optimizer, parameter_groups

ARMS: dict[str, dict[str, Any]] = {
    "dense+full": {"embedding": {"kind": "dense"}, "head": {"kind": "full"}},
    "hashing+full": {"embedding": {"kind": "hashing"}, "head": {"kind": "full"}},
    "qr+full": {"embedding": {"kind": "qr"}, "head": {"kind": "full"}},
    "qr+two_level": {"embedding": {"kind": "qr"}, "head": {"kind": "two_level"}},
    "mixed_radix+digits": {"embedding": {"kind": "mixed_radix", "digits": 3}, "head": {"kind": "digits"}},
}
BASELINE = ("qr+two_level", 30_000)
ROWS, TIME, WARM_UP, STEPS = 8, 128, 2, 5


def measure(arm: str, vocab_size: int) -> dict[str, Any]:
    """Parameters, bytes and seconds of one arm, in this process."""
    before = peak_mb()
    torch.manual_seed(0)
    model = {"size": "small", "vocab_size": vocab_size, **ARMS[arm]}
    config = resolve(from_mapping(PretrainConfig, {"model": model, "data": {"max_length": TIME}}))
    module = build_electra(Plan.of(config), torch.randint(0, 100, (vocab_size,))).train()
    groups = parameter_groups(
        module.named_parameters(remove_duplicate=False), lr=5e-4, weight_decay=0.01, decay_embeddings=False
    )
    optimizer = build_optimizer(groups, kind="adamw", betas=(0.9, 0.98), eps=1e-6)
    dtype, seconds = autocast_dtype("auto", torch.device("cpu")), []
    for step in range(WARM_UP + STEPS):
        rng = torch.Generator().manual_seed(step)
        ids = torch.randint(5, vocab_size, (ROWS, TIME), generator=rng)
        masked = mask_tokens(ids, special=torch.tensor(NEVER_TARGETS), mask_id=4, rate=0.15, rng=rng)
        began = time.perf_counter()
        positions = masked.chosen.flatten().nonzero().squeeze(-1)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            outcome = module(ids, None, masked.masked_ids, positions, masked.uniforms.flatten()[positions])
        loss = total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
        assert loss.isfinite()
    table = module.discriminator.get_input_embeddings()
    head = module.generator.generator_lm_head
    return {
        "table_parameters": sum(p.numel() for p in table.parameters()),
        "head_parameters": sum(p.numel() for p in head.parameters()),
        "index_bytes": sum(b.numel() * b.element_size() for b in table.buffers()),
        "peak_mb": peak_mb(),
        "imports_mb": before,
        "seconds": statistics.median(seconds[WARM_UP:]),
    }


def needs_gb(arm: str, vocab_size: int) -> float:
    """A lower bound of an arm's memory: a dense table with its gradient and moments, and scores for one chunk."""
    return vocab_size * 128 * 4 * 4 / 1e9 if arm.startswith("dense") else 0.0


def main() -> None:
    """Run the arms in turn and write the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab-sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=float, default=16, help="GB an arm may take")
    parser.add_argument("--timeout", type=int, default=300, help="seconds an arm may take a round")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("ARM", "VOCAB_SIZE"), help="measure one arm here, print JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    wanted = [(arm, size) for size in options.vocab_sizes for arm in options.arms]
    wanted = [BASELINE, *(pair for pair in wanted if pair != BASELINE)]
    rows: dict[tuple[str, int], dict[str, Any]] = {
        pair: {"arm": pair[0], "vocab_size": pair[1], "rounds": []} for pair in wanted
    }
    for _ in range(options.rounds):
        for row in rows.values():
            if "left_out" not in row:
                take_turn(row, options)
        summarise(rows)
        if options.out:
            facts = {"command": sys.argv, "torch": torch.__version__, "threads": torch.get_num_threads()}
            options.out.write_text(json.dumps(facts | {"rows": list(rows.values())}, indent=1))
    for row in rows.values():
        print({key: value for key, value in row.items() if key != "rounds"})


def take_turn(row: dict[str, Any], options: argparse.Namespace) -> None:
    """Measure an arm once more, in a process of its own, or note why that cannot be."""
    if needs_gb(row["arm"], row["vocab_size"]) > options.memory:
        row["left_out"] = f"needs {needs_gb(row['arm'], row['vocab_size']):.0f} GB for the table alone"
        return
    command = [sys.executable, __file__, "--one", row["arm"], str(row["vocab_size"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=options.timeout)
    except subprocess.TimeoutExpired:
        row["left_out"] = f"takes more than {options.timeout} s"
    except subprocess.CalledProcessError as error:
        row["left_out"] = f"exit code {error.returncode}: {(error.stderr.splitlines() or ['killed'])[-1]}"
    else:
        row["rounds"].append(json.loads(done.stdout.splitlines()[-1]))
        print(row["arm"], row["vocab_size"], row["rounds"][-1], flush=True)


def summarise(rows: dict[tuple[str, int], dict[str, Any]]) -> None:
    """Medians of every row, and its time and memory beside the baseline's of the same rounds."""
    base = rows[BASELINE]["rounds"]
    for row in rows.values():
        mine = row["rounds"]
        if not mine or not base:
            continue
        row |= {key: statistics.median(each[key] for each in mine) for key in mine[0]}
        pairs = list(zip(mine, base, strict=False))
        row["time_ratio"] = statistics.median(one["seconds"] / other["seconds"] for one, other in pairs)
        row["more_mb"] = statistics.median(one["peak_mb"] - other["peak_mb"] for one, other in pairs)


if __name__ == "__main__":
    main()
