"""What each table, order of tokens and head is worth: equal training steps, several seeds, judged on held-out text.

    python benchmarks/quality_embeddings.py reviews.csv data.text_column=review model.vocab_size=300000 \
        --data work --out results.json --steps 2000 --seeds 0 1 2 \
        --finetune data.path=labelled.csv data.text_column=review data.label_column=label train.epochs=1

Every 50th document is held out, of which nothing is seen: neither by the vocabulary nor by the order of tokens. Scores:
the generator's exact nll in nats over the whole vocabulary, at masked positions with a fixed mask; the same of words
seen 1 to 9 times in training, and of all but [UNK]; the discriminator's AUC on the generator's samples. All arms of a
seed see the same batches and masks. With --finetune, the accuracy of the fine-tuned discriminator after its last epoch.
Seconds a step are of processor time, so that other jobs count little. What is
finished is kept in --out and not done again.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

import quorem  # noqa: F401
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override, to_mapping
from quorem.config.settings import PretrainConfig
from quorem.data.documents import Document
from quorem.data.readers import READERS, choose_format
from quorem.data.rows import ROWS
from quorem.data.shards import Shards, write_shards
from quorem.files import fingerprint_files
from quorem.models.masking import mask_tokens
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.arrangement import arrange
from quorem.pretraining.program import PretrainProgram, build_pretraining_optimizer
from quorem.tasks import finetune
from quorem.tokenization import fingerprint, load_tokenizer, save_tokenizer, train_tokenizer
from quorem.training.device import autocast_dtype
from quorem.training.loop import fit
from quorem.training.metrics import BinaryMetrics
from quorem.training.run_folder import Run

HELD_OUT_EVERY, RARE = 50, 10


def arm(table: str, head: str = "two_level", *, condition: str = "mlp", **options: Any) -> list[str]:
    """Settings of a table, its options and its head; ordered by frequency and started at random unless they say so."""
    given = {"kind": table, "assignment": "frequency", "start": "random", **options}
    chosen = [f"model.embedding.{key}={value}" for key, value in given.items()]
    return [*chosen, f"model.head.kind={head}", f"model.head.condition={condition}"]


ARMS = {  # those from hashing on have about the parameters of qr
    "dense, full": arm("dense", "full"),
    "dense": arm("dense"),
    "dense, cluster": arm("dense", assignment="cluster"),
    "qr multiply, full": arm("qr", "full", operation="multiply"),
    "qr multiply": arm("qr", operation="multiply"),
    "qr multiply, random": arm("qr", operation="multiply", assignment="random"),
    "qr multiply, cluster": arm("qr", operation="multiply", assignment="cluster"),
    "qr multiply, cluster, no tier": arm("qr", operation="multiply", assignment="cluster", tier=0),
    "qr multiply, cluster, condition multiply": arm(
        "qr", operation="multiply", condition="multiply", assignment="cluster"
    ),
    "qr add, cluster": arm("qr", operation="add", assignment="cluster"),
    "qr add": arm("qr", operation="add"),
    "qr concat, cluster": arm("qr", operation="concat", assignment="cluster"),
    "qr rank 4, cluster": arm("qr", operation="multiply", rank=4, assignment="cluster"),
    "mixed_radix of 3, cluster, digits": arm(
        "mixed_radix", "digits", operation="multiply", digits=3, assignment="cluster"
    ),
    "hashing": arm("hashing"),
    "hash_embedding": arm("hash_embedding"),
}


def same_as_before(found: Any, wanted: Any, place: Path) -> None:
    """Stop rather than mix what was made from something else."""
    if found != wanted:
        sys.exit(f"{place}: holds what was made with {found}, not {wanted}: give another")


def prepare(path: str, config: PretrainConfig, folder: Path) -> None:
    """Tokenizer from the training documents, shards of these and of those held out."""
    facts: dict[str, Any] = {"data": fingerprint_files(Path(path)), "column": config.data.text_column}
    facts["every"] = HELD_OUT_EVERY
    facts |= {"vocab_size": config.model.vocab_size, "tokenizer": to_mapping(config.tokenizer)}
    if (folder / "facts.json").exists():
        same_as_before(json.loads((folder / "facts.json").read_text()), facts, folder)
    (folder / "facts.json").write_text(json.dumps(facts))

    def documents(*, held_out: bool) -> Iterator[Document]:
        read = READERS[choose_format(path, config.data.format)].read
        for document in read(path, text_column=config.data.text_column):
            if (document.row % HELD_OUT_EVERY == 0) == held_out:
                yield document

    if not (folder / "tokenizer").exists():
        texts = (document.text for document in documents(held_out=False))
        kind = {name: value for name, value in to_mapping(config.tokenizer).items() if name not in ("path", "ids")}
        tokenizer = train_tokenizer(texts, vocab_size=config.model.vocab_size, **kind)
        save_tokenizer(tokenizer, folder / "tokenizer")
    tokenizer = load_tokenizer(folder / "tokenizer")
    for name, held_out in (("training", False), ("held_out", True)):
        if not (folder / name).exists():
            write_shards(folder / name, documents(held_out=held_out), tokenizer, made_from={})


@torch.no_grad()
def judge(program: PretrainProgram, shards: Shards, counts: torch.Tensor, *, max_rows: int) -> dict[str, float | None]:
    """Held-out scores."""
    config = program.config
    rows = ROWS[config.data.rows](shards, max_length=config.data.max_length or 2, cls_id=2, pad_id=0)
    rng, dtype = torch.Generator().manual_seed(0), autocast_dtype(config.train.precision, torch.device("cpu"))
    head, detected, nlls, targets = program.module.generator.generator_lm_head, BinaryMetrics(), [], []
    program.module.eval()
    for start in range(0, min(max_rows, len(rows)), 32):
        ids, mask = rows.batch(torch.arange(start, min(start + 32, len(rows))).numpy())
        masked = mask_tokens(ids, mask, special=program.special, mask_id=program.mask_id, rate=0.15, rng=rng)
        positions = masked.chosen.flatten().nonzero().squeeze(-1)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            outcome = program.module(ids, mask, masked.masked_ids, positions, masked.uniforms.flatten()[positions])
        detected.update(outcome.scores, outcome.is_replaced, outcome.real)
        nlls.append(head.nll(outcome.hidden.float(), outcome.targets))
        targets.append(outcome.targets)
    nll, target = torch.cat(nlls), torch.cat(targets)
    known, seen = target != 1, counts[target]
    rare = known & (seen < RARE)
    return {
        "nll": float(nll.mean()),
        "nll_known": float(nll[known].mean()),
        "nll_rare": float(nll[rare].mean()),
        "positions": len(nll),
        "rare_positions": int(rare.sum()),
        "rtd_auc": detected.compute()["auc"],
    }


def finetuned_accuracy(
    program: PretrainProgram, tokenizer: PreTrainedTokenizerFast, folder: Path, settings: list[str]
) -> float:
    """Of the discriminator after its last epoch."""
    model = program.module.discriminator
    model.config.tokenizer_fingerprint = fingerprint(tokenizer)
    tokenizer.model_max_length = model.config.max_position_embeddings
    with program.module.merged_embeddings():
        model.save_pretrained(folder / "discriminator")
    save_tokenizer(tokenizer, folder / "discriminator")
    given = [f"pretrained={folder}", *settings, f"train.seed={program.config.train.seed}"]
    return float(finetune(override(FinetuneConfig(), given), folder / "finetuned")["last"]["accuracy"])


def run_arm(config: PretrainConfig, folder: Path, *, max_rows: int, finetune_with: list[str]) -> dict[str, Any]:
    """Train and judge one arm with one seed."""
    tokenizer, shards = load_tokenizer(folder / "tokenizer"), Shards(folder / "training")
    with tempfile.TemporaryDirectory() as temporary:
        run = Run(Path(temporary), {})
        (Path(temporary) / "data").mkdir()
        began = time.process_time()
        plan = Plan.of(config, len(tokenizer))
        arrangement = arrange(plan, run, tokenizer, shards)
        ordered = time.process_time()
        program = PretrainProgram(plan, tokenizer, shards, arrangement)
        optimizer = build_pretraining_optimizer(program.module, config)
        settings = replace(config.train, log_every=10**9, checkpoint_every=10**9)
        trained = time.process_time()
        fit(
            program, optimizer, settings=settings, total_steps=program.total_steps,
            schedule=str(config.train.schedule), run=run,
        )  # fmt: skip
        seconds = time.process_time() - trained
        head = program.module.generator.generator_lm_head
        table = program.module.generator.get_input_embeddings()
        found = {
            "held_out": judge(program, Shards(folder / "held_out"), torch.from_numpy(shards.counts), max_rows=max_rows),
            "table_parameters": sum(p.numel() for p in table.parameters()),
            "head_parameters": sum(p.numel() for p in head.parameters()),
            "seconds_a_step": seconds / program.total_steps,
            "seconds_for_the_order": ordered - began,
        }
        if finetune_with:
            found["finetuned_accuracy"] = finetuned_accuracy(program, tokenizer, Path(temporary), finetune_with)
        return found


def summary(rounds: dict[str, dict[str, Any]]) -> str:
    """Mean and range over the seeds."""
    found = list(rounds.values())
    parts = [f"{(found[0]['table_parameters'] + found[0]['head_parameters']) / 1e6:.2f} M"]
    for key in ("nll", "nll_known", "nll_rare", "rtd_auc"):
        values = [each["held_out"][key] for each in found]
        parts.append(f"{key} {statistics.mean(values):.4f} (+- {(max(values) - min(values)) / 2:.4f})")
    accuracies = [each["finetuned_accuracy"] for each in found if "finetuned_accuracy" in each]
    if accuracies:
        spread = (max(accuracies) - min(accuracies)) / 2
        parts.append(f"fine-tuned {statistics.mean(accuracies):.4f} (+- {spread:.4f})")
    return ", ".join([*parts, f"{statistics.median(each['seconds_a_step'] for each in found):.3f} s a step"])


def main() -> None:
    """Run the arms that are not done yet, seed by seed, and write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path")
    parser.add_argument("settings", nargs="*", help="settings of every arm")
    parser.add_argument("--arm", action="append", choices=ARMS, help="all if not given")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=1024, help="held-out rows")
    parser.add_argument("--finetune", nargs="+", default=[], metavar="SETTING", help="settings of quorem finetune")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, required=True, help="where prepared data is kept between calls")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    transformers_logging.set_verbosity_error()  # it reports every new head
    transformers_logging.disable_progress_bar()
    arms = options.arm or list(ARMS)
    torch.set_num_threads(options.threads)
    base = [f"data.path={options.path}", "model.size=tiny", *options.settings, f"train.max_steps={options.steps}"]
    options.data.mkdir(parents=True, exist_ok=True)
    prepare(options.path, resolve(override(PretrainConfig(), base)), options.data)
    facts = {
        "settings": base,
        "finetune": options.finetune,
        "held_out_rows": options.rows,
        "threads": options.threads,
        "torch": torch.__version__,
    }
    results: dict[str, Any] = {**facts, "arms": {}}
    if options.out.exists():
        results = json.loads(options.out.read_text())
        same_as_before({key: results[key] for key in facts}, facts, options.out)
    for seed in options.seeds:
        for name in arms:
            kept = results["arms"].setdefault(name, {"settings": ARMS[name], "seeds": {}})
            same_as_before(kept["settings"], ARMS[name], options.out)
            rounds = kept["seeds"]
            if str(seed) in rounds:
                continue
            config = resolve(override(PretrainConfig(), [*base, *ARMS[name], f"train.seed={seed}"]))
            rounds[str(seed)] = run_arm(config, options.data, max_rows=options.rows, finetune_with=options.finetune)
            print(f"seed {seed}, {name}: {summary({'': rounds[str(seed)]})}", flush=True)
            options.out.write_text(json.dumps(results, indent=1))
    for name in arms:
        print(f"{name}: {summary(results['arms'][name]['seeds'])}")


if __name__ == "__main__":
    main()
