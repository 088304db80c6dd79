r"""What each recipe of the objective is worth at equal compute: fine-tuned accuracy, several seeds.

    quorem prepare unlabelled.txt.gz --tokenizer wordpiece --out shards model.vocab_size=30522
    python benchmarks/recipes.py shards reviews.csv.gz --seconds 120 --seeds 0 1 --out results.json --finetune \
        data.text_column=review data.label_column=sentiment data.split_column=split train.epochs=1

Every arm pre-trains for the same processor time on one thread, its number of steps set from its own measured pace, so
that its learning rate runs its whole course. Then its discriminator is fine-tuned, with the same settings for all, on
the labelled rows and judged on those held out after the last epoch. "from scratch" is that fine-tuning without
pre-training. What is finished is kept in --out and not done again.
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
from transformers.utils import logging as transformers_logging

from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.prepare import load_prepared
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.arrangement import arrange
from quorem.pretraining.pretrain import pretrain
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.tasks import finetune
from quorem.training.loop import fit
from quorem.training.run_folder import Run

WARM_UP, TIMED = 5, 25  # steps
ARMS = {
    "as the preset": [],
    "embeddings shared whole": ["model.disentangled_embeddings=false"],
    "embeddings not shared": ["model.shared_embeddings=false"],
    "one learning rate for both": ["train.generator_learning_rate=5e-4"],
    "masks 30 % to 10 %": ["objective.mask_rate=0.3", "objective.mask_rate_end=0.1"],
    "masks 25 %": ["objective.mask_rate=0.25"],
    "google recipe": ["objective.recipe=google"],
}
SCRATCH = "from scratch"


def seconds_a_step(config: PretrainConfig) -> float:
    """Processor time of a step, measured on the first steps of a program that is then thrown away."""
    tokenizer, shards = load_prepared(str(config.data.path))
    settings = replace(config.train, log_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        warm, run = (Run(Path(folder) / name, {}) for name in ("warm", "timed"))
        (warm.folder / "data").mkdir()
        plan = Plan.of(config, len(tokenizer))
        program = PretrainProgram(plan, tokenizer, shards, arrange(plan, warm, tokenizer, shards))
        optimizer = build_pretraining_optimizer(program.module, config)
        fit(program, optimizer, settings=settings, total_steps=WARM_UP, schedule="constant", run=warm)
        began = time.process_time()
        fit(program, optimizer, settings=settings, total_steps=TIMED, schedule="constant", run=run)
        return (time.process_time() - began) / TIMED


def pretrained(settings: list[str], out: Path, *, seconds: float) -> dict[str, Any]:
    """Pre-train for so much processor time; steps, and the last metrics."""
    steps = round(seconds / seconds_a_step(resolve(override(PretrainConfig(), settings))))
    config = override(PretrainConfig(), [*settings, f"train.max_steps={steps}", "train.checkpoint_every=1000000"])
    began = time.process_time()
    found = pretrain(config, out)
    kept = ("mlm_loss", "share_replaced", "rtd_loss", "base_rate_entropy", "rtd_auc")
    return {
        "steps": steps,
        "processor_seconds": round(time.process_time() - began, 1),
        "last": {key: found[key] for key in kept},
    }


def run_arm(name: str, base: list[str], finetune_with: list[str], *, seed: int, seconds: float) -> dict[str, Any]:
    """Pre-train and fine-tune one arm with one seed."""
    settings = [*base, *ARMS.get(name, []), f"train.seed={seed}"]
    with tempfile.TemporaryDirectory() as temporary:
        folder, found = Path(temporary), dict[str, Any]()
        if name == SCRATCH:
            pretrain(override(PretrainConfig(), [*settings, "train.max_steps=1"]), folder / "run")
        else:
            found |= pretrained(settings, folder / "run", seconds=seconds)
        given = [f"pretrained={folder / 'run'}", *finetune_with, f"train.seed={seed}"]
        if name == SCRATCH:
            given.append("classifier.from_scratch=true")
        result = finetune(override(FinetuneConfig(), given), folder / "finetuned")
        return found | {"accuracy": result["last"]["accuracy"]}


def main() -> None:
    """Run the arms that are not done yet, seed by seed, and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards")
    parser.add_argument("labelled")
    parser.add_argument("settings", nargs="*", help="settings of every arm")
    parser.add_argument("--arm", action="append", choices=[*ARMS, SCRATCH], help="all if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--finetune", nargs="+", default=[], metavar="SETTING", help="settings of quorem finetune")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()  # it reports every new head
    transformers_logging.disable_progress_bar()
    base = [f"data.path={options.shards}", "model.size=tiny", *options.settings]
    finetune_with = [f"data.path={options.labelled}", *options.finetune]
    facts = {"settings": base, "finetune": finetune_with, "seconds": options.seconds, "torch": torch.__version__}
    results: dict[str, Any] = {**facts, "arms": {}}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        if changed := [key for key in facts if results[key] != facts[key]]:
            parser.error(f"{options.out} holds runs with other {', '.join(changed)}: give another --out")
    for seed in options.seeds:
        for name in options.arm or [*ARMS, SCRATCH]:
            kept = results["arms"].setdefault(name, {"settings": ARMS.get(name, []), "seeds": {}})["seeds"]
            if str(seed) not in kept:
                found = run_arm(name, base, finetune_with, seed=seed, seconds=options.seconds)
                kept[str(seed)] = found
                print(f"seed {seed}, {name}: {found['accuracy']:.4f}, {found.get('steps', 0)} steps", flush=True)
                options.out.write_text(json.dumps(results, indent=1))
    for name, kept in results["arms"].items():
        accuracies = [each["accuracy"] for each in kept["seeds"].values()]
        print(f"{name}: {statistics.mean(accuracies):.4f} ({min(accuracies):.4f} to {max(accuracies):.4f})")


if __name__ == "__main__":
    main()
