"""What pre-training is worth where labels are few, on the built-in sample, without a download.

It pre-trains on 20,000 reviews without labels, fine-tunes on 1,000 labelled ones with three seeds, and does the same
from new weights. Linear models on word counts stand beside them. Every command is printed as you would type it; at the
end there is one table and what follows from it. Run it from the repository's root, after `pip install .`:

    python examples/demo.py
"""
# ruff: noqa: T201 - a demonstration prints

import csv
import json
import shlex
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from quorem.cli import main

FOLDER = Path("runs/demo")
LABELS, JUDGED, SEEDS = 1_000, 1_500, (0, 1, 2)
UNLABELLED, LABELLED = FOLDER / "unlabelled.csv", FOLDER / "labelled.csv"
PRETRAIN = (
    f"pretrain {UNLABELLED} --text-column review --out {FOLDER}/pretrained "
    "model.size=tiny model.embedding.kind=qr model.vocab_size=40000 train.max_steps=300 train.log_every=50"
)
FINETUNE = (
    f"finetune {FOLDER}/pretrained {LABELLED} --text-column review --label-column sentiment data.split_column=split "
    "train.epochs=3 train.batch_size=16 train.log_every=1000 classifier.baseline=false"
)
LINE = "{:<40}{:>10}{:>20}{:>10}"


def demonstrate() -> None:
    """Run every command, fit the baselines and print the table.

    Raises:
        SystemExit: with the exit code of a command that failed.
    """
    began = time.process_time()
    shutil.rmtree(FOLDER, ignore_errors=True)
    run(f"sample reviews --rows 20000 --out {UNLABELLED}")
    run(f"sample reviews --rows {LABELS + JUDGED} --seed 1 --out {FOLDER}/sample.csv")
    rows = split_rows()
    print(f"\n{LABELS:,} of these reviews are to be learned from, {JUDGED:,} judge; pre-training reads none of them.")
    pretraining = run(PRETRAIN)
    seconds = {"fine-tuned": 0.0, "from scratch": 0.0}
    for seed in SEEDS:
        seconds["fine-tuned"] += run(f"{FINETUNE} train.seed={seed} --out {FOLDER}/finetuned-{seed}")
        seconds["from scratch"] += run(f"{FINETUNE} train.seed={seed} --from-scratch --out {FOLDER}/scratch-{seed}")
    run(f"predict {FOLDER}/finetuned-0 {FOLDER}/sample.csv --text-column review --out {FOLDER}/predictions.csv")
    table, scratch = accuracies("finetuned"), accuracies("scratch")
    words, pairs = (baseline(rows, longest=longest) for longest in (1, 2))
    print("\n" + LINE.format(f"accuracy on {JUDGED:,} reviews, {LABELS:,} labels", "mean", "of seeds", "seconds"))
    print(network("pre-trained, then fine-tuned", table, pretraining + seconds["fine-tuned"] / len(SEEDS)))
    print(network("the same network from new weights", scratch, seconds["from scratch"] / len(SEEDS)))
    print(LINE.format("TF-IDF of words, logistic regression", f"{words:.4f}", "", ""))
    print(LINE.format("TF-IDF of words and word pairs", f"{pairs:.4f}", "", ""))
    print(f"\n{sizes()}")
    print(advice(statistics.mean(table), statistics.mean(scratch), max(words, pairs)))
    print(f"({time.process_time() - began:.0f} s of processor time; every file is in {FOLDER})")


def run(command: str) -> float:
    """Print and run one `quorem` command; the seconds of processor time it took.

    Raises:
        SystemExit: if it failed, or was told to stop.
    """
    print(f"\n$ quorem {command}", flush=True)
    start, words = time.process_time(), shlex.split(command)
    code = main(words)
    out = Path(words[words.index("--out") + 1])
    if code or (words[0] in ("pretrain", "finetune") and not (out / "result.json").exists()):
        sys.exit(code)
    return time.process_time() - start


def split_rows() -> list[dict[str, str]]:
    """Write the labelled sample again with a column that says which rows are learned from."""
    with (FOLDER / "sample.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            dict(row, split="train" if place < LABELS else "test") for place, row in enumerate(csv.DictReader(file))
        ]
    with LABELLED.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["review", "sentiment", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return rows


def accuracies(name: str) -> list[float]:
    """Of each seed's last epoch: the best epoch would be chosen on the rows it is judged on."""
    results = ((FOLDER / f"{name}-{seed}" / "result.json").read_text(encoding="utf-8") for seed in SEEDS)
    return [float(json.loads(result)["last"]["accuracy"]) for result in results]


def network(name: str, found: Sequence[float], seconds: float) -> str:
    """A line of the table."""
    spread = f"{min(found):.4f} to {max(found):.4f}"
    return LINE.format(name, f"{statistics.mean(found):.4f}", spread, f"{seconds:.0f}")


def baseline(rows: Sequence[dict[str, str]], *, longest: int) -> float:
    """Accuracy of logistic regression on TF-IDF of runs of up to `longest` words, trained on the same labels."""
    parts = {part: [row for row in rows if row["split"] == part] for part in ("train", "test")}
    vectorizer = TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True)
    counted = vectorizer.fit_transform([row["review"] for row in parts["train"]])
    model = LogisticRegression(C=10, max_iter=1000).fit(counted, [row["sentiment"] for row in parts["train"]])
    judged = vectorizer.transform([row["review"] for row in parts["test"]])
    return float(model.score(judged, [row["sentiment"] for row in parts["test"]]))


def sizes() -> str:
    """What the compositional table saves."""
    result = json.loads((FOLDER / "pretrained" / "result.json").read_text(encoding="utf-8"))
    config = json.loads((FOLDER / "pretrained" / "discriminator" / "config.json").read_text(encoding="utf-8"))
    dense = result["vocab_size"] * config["embedding_size"]
    return (
        f"The discriminator has {result['parameters']['discriminator']:,} parameters for {result['vocab_size']:,} "
        f"words; an ordinary token table alone would have {dense:,}."
    )


def advice(pretrained: float, scratch: float, counting: float) -> str:
    """What follows from the table."""
    if pretrained <= counting:
        return "Counting words is as good here: it takes seconds, so try it first on your own data."
    if pretrained <= scratch:
        return "Pre-training was not worth its seconds here: train the network on the labels alone."
    points = 100 * (pretrained - scratch)
    return (
        f"Pre-training is worth {points:.0f} points here, with {LABELS:,} labels. The sample is synthetic: pre-train "
        "on your own texts, and look at the same lines."
    )


if __name__ == "__main__":
    demonstrate()
