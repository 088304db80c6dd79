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
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from quorem.config import ModelSettings, from_mapping
from quorem.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.objective import Electra, mask_tokens, total_loss
from quorem.optim import build_optimizer, parameter_groups
from quorem.presets import NEVER_TARGETS, network_configs
from quorem.train import autocast_dtype

ARMS = {
    "dense+full": {"embedding": {"kind": "dense"}, "head": {"kind": "full"}},
    "hashing+full": {"embedding": {"kind": "hashing"}, "head": {"kind": "full"}},
    "qr+full": {"embedding": {"kind": "qr"}, "head": {"kind": "full"}},
    "qr+two_level": {"embedding": {"kind": "qr"}, "head": {"kind": "two_level"}},
}
BASELINE = ("qr+two_level", 30_000)
ROWS, TIME, WARM_UP, STEPS = 8, 128, 2, 5


def measure(arm: str, vocab_size: int) -> dict[str, Any]:
    """Parameters, bytes and seconds of one arm, in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    settings = from_mapping(ModelSettings, {"size": "small", **ARMS[arm]})
    generator, discriminator = network_configs(settings, vocab_size=vocab_size, max_length=TIME)
    module = Electra(QuoremForMaskedLM(generator), QuoremForPreTraining(discriminator)).train()
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
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "imports_mb": before / 1024,
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
    found: dict[tuple[str, int], list[dict[str, Any]]] = {pair: [] for pair in wanted}
    left_out: dict[tuple[str, int], str] = {}
    for _ in range(options.rounds):
        for arm, size in wanted:
            if (arm, size) in left_out:
                continue
            if needs_gb(arm, size) > options.memory:
                left_out[arm, size] = f"needs {needs_gb(arm, size):.0f} GB for the table alone"
                continue
            command = [sys.executable, __file__, "--one", arm, str(size)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=options.timeout)
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
                left_out[arm, size] = f"{type(error).__name__} within {options.timeout} s"
                continue
            found[arm, size].append(json.loads(done.stdout.splitlines()[-1]))
            print(arm, size, found[arm, size][-1], flush=True)
    rows = []
    for (arm, size), rounds in found.items():
        row: dict[str, Any] = {"arm": arm, "vocab_size": size, "rounds": rounds}
        if rounds:
            ratios = [mine["seconds"] / base["seconds"] for mine, base in zip(rounds, found[BASELINE], strict=False)]
            row |= {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
            row |= {
                "time_ratio": statistics.median(ratios),
                "more_mb": row["peak_mb"] - rows[0]["peak_mb"] if rows else 0,
            }
        if (arm, size) in left_out:
            row["left_out"] = left_out[arm, size]
        rows.append(row)
        print({key: value for key, value in row.items() if key != "rounds"})
    if options.out:
        facts = {"command": sys.argv, "torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}
        options.out.write_text(json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
