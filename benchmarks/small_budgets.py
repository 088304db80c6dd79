"""What learns fastest in equal time on a small budget: positions, initialisation, learning rate, embedding and head.

Every arm gets the same number of seconds of one thread's processor time (steps are set from its own measured speed, so
that its learning rate runs its whole course), the same data, order and masks, and is judged on held-out text: the
generator's exact nll, and the discriminator's loss and AUC on the generator's samples.

    python benchmarks/small_budgets.py reviews.csv held_out.csv --column review --seconds 100 --out results.json \
        model.size=origin --arm model.positions=rotary --arm model.positions=alibi
"""

import argparse
import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

import quorem  # noqa: F401
from quorem.config.loading import override, to_mapping
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import prepare_data
from quorem.data.readers import READERS
from quorem.data.rows import PackedRows
from quorem.data.shards import Shards, write_shards
from quorem.data.source import Source
from quorem.models.masking import mask_tokens
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.arrangement import arrange
from quorem.pretraining.program import MicroBatch, PretrainProgram, build_pretraining_optimizer
from quorem.tokenization import load_tokenizer
from quorem.training.device import autocast_dtype
from quorem.training.loop import fit
from quorem.training.run_folder import Run

WARM_UP, TIMED = 3, 8  # steps


def evaluate(program: PretrainProgram, shards: Shards, *, max_rows: int) -> dict[str, Any]:
    """Held-out scores: the program's record over the first rows of `shards`, masked with a fixed seed."""
    config, device = program.config, torch.device("cpu")
    rows = PackedRows(shards, max_length=config.data.max_length or 2, cls_id=2, pad_id=0)
    rng, dtype = torch.Generator().manual_seed(0), autocast_dtype(config.train.precision, device)
    program.reset()
    program.module.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        for start in range(0, min(max_rows, len(rows)), 32):
            ids, mask = rows.batch(torch.arange(start, min(start + 32, len(rows))).numpy())
            masked = mask_tokens(ids, mask, special=program.special, mask_id=program.mask_id, rate=0.15, rng=rng)
            counts = (masked.num_tokens, masked.num_chosen, masked.num_tokens)
            program.loss(program.module, MicroBatch(masked.inputs(), *counts))
    record = program.record()
    record.pop("tokens")
    return record


def program_and_optimizer(
    config: PretrainConfig, data: Path, run: Run
) -> tuple[PretrainProgram, torch.optim.Optimizer]:
    """A fresh program on the prepared data, its tokens arranged as in training, for a new run."""
    tokenizer, shards = load_tokenizer(data / "tokenizer"), Shards(data / "shards")
    (run.folder / "data").mkdir()
    plan = Plan.of(config, len(tokenizer))
    program = PretrainProgram(plan, tokenizer, shards, arrange(plan, run, tokenizer, shards))
    return program, build_pretraining_optimizer(program.module, config)


def seconds_per_step(config: PretrainConfig, data: Path) -> float:
    """Processor time of a step, measured on the first steps of a program that is then thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        warm, run = (Run(Path(folder) / name, {}) for name in ("warm", "timed"))
        program, optimizer = program_and_optimizer(config, data, warm)
        settings = replace(config.train, log_every=10**9, checkpoint_every=10**9)
        fit(program, optimizer, settings=settings, total_steps=WARM_UP, schedule="constant", run=warm)
        began = time.process_time()
        fit(program, optimizer, settings=settings, total_steps=TIMED, schedule="constant", run=run)
        return (time.process_time() - began) / TIMED


def run_arm(config: PretrainConfig, data: Path, held_out: Shards, *, seconds: float, max_rows: int) -> dict[str, Any]:
    """Train for `seconds` and judge."""
    pace = seconds_per_step(config, data)
    config = replace(config, train=replace(config.train, max_steps=max(1, round(seconds / pace)), log_every=50))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), {})
        program, optimizer = program_and_optimizer(config, data, run)
        began = time.perf_counter()
        fit(
            program,
            optimizer,
            settings=config.train,
            total_steps=program.total_steps,
            schedule=str(config.train.schedule),
            run=run,
        )
        took = time.perf_counter() - began
        curve = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    found = evaluate(program, held_out, max_rows=max_rows)
    curve = [{key: line[key] for key in ("step", "mlm_loss", "rtd_loss", "rtd_auc")} for line in curve]
    return {"steps": program.total_steps, "seconds": round(took, 1), "held_out": found, "curve": curve}


def main() -> None:
    """Run the arms and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("held_out")
    parser.add_argument("settings", nargs="*", help="settings of every arm")
    parser.add_argument("--column", default="review")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--arm", action="append", required=True, help="settings of one arm, split by spaces")
    parser.add_argument("--data", type=Path, help="where prepared data is kept between calls")
    parser.add_argument("--rows", type=int, default=1024, help="held-out rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(options.threads)
    base = [f"data.path={options.path}", f"data.text_column={options.column}", *options.settings]
    config = resolve(override(PretrainConfig(), base))
    with tempfile.TemporaryDirectory() as temporary:
        data = options.data or Path(temporary)
        if not (data / "data" / "shards").exists():
            source = Source.of(config.data, text_column=options.column)
            prepare_data(
                data / "data", source, inputs="", settings=config.tokenizer, vocab_size=config.model.vocab_size
            )
        tokenizer = load_tokenizer(data / "data" / "tokenizer")
        write_shards(
            data / f"held_out_{os.getpid()}",
            READERS["csv"].read(options.held_out, text_column=options.column),
            tokenizer,
            made_from={},
        )
        held_out = Shards(data / f"held_out_{os.getpid()}")
        results = []
        for arm in options.arm:
            arm_config = resolve(override(PretrainConfig(), [*base, *arm.split()]))
            found = run_arm(arm_config, data / "data", held_out, seconds=options.seconds, max_rows=options.rows)
            scores = found["held_out"]
            print(
                f"{arm}: {found['steps']} steps, "
                + ", ".join(f"{k} {scores[k]:.4f}" for k in ("mlm_loss", "rtd_loss", "base_rate_entropy", "rtd_auc")),
                flush=True,
            )
            results.append({"arm": arm, "config": to_mapping(arm_config), **found})
            options.out.write_text(
                json.dumps({"torch": torch.__version__, "threads": options.threads, "arms": results}, indent=1)
            )


if __name__ == "__main__":
    main()
