"""What pre-training is worth where labels are few, on the built-in sample, without a download.

It pre-trains on 20,000 reviews without labels, fine-tunes on 500 labelled ones with three seeds, and does the same
with token vectors that are counted in the 20,000 reviews but not trained, and from new weights. Linear models on word
counts stand beside them. Every command is printed as you would type it; at the end there is one table and what follows
from it. Run it from the repository's root, after `pip install .`:

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
LABELS, JUDGED, SEEDS, STEPS = 500, 1_500, (0, 1, 2), 250
UNLABELLED, LABELLED = FOLDER / "unlabelled.csv", FOLDER / "labelled.csv"
PRETRAIN = (
    f"pretrain {UNLABELLED} --text-column review --out {FOLDER}/{{run}} model.size=tiny model.embedding.kind=qr "
    "model.vocab_size=40000 train.max_steps={steps} train.log_every=50"
)
FINETUNE = (
    f"finetune {FOLDER}/{{run}} {LABELLED} --text-column review --label-column sentiment data.split_column=split "
    "train.epochs=3 train.batch_size=16 train.keep_epoch=last train.log_every=1000 classifier.baseline=false"
)
ARMS = {
    "pre-trained, then fine-tuned": ("pretrained", ""),
    "vectors counted, not trained, fine-tuned": ("counted", ""),
    "the same network from new weights": ("pretrained", " --from-scratch"),
}
"""Of each line of the table: the run that is fine-tuned, and how."""
LINE = "{:<42}{:>8}{:>20}{:>8}"


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
    steps = {"pretrained": STEPS, "counted": 0}
    spent = {name: run(PRETRAIN.format(run=name, steps=number)) for name, number in steps.items()}
    seconds = dict.fromkeys(ARMS, 0.0)
    for seed in SEEDS:
        for number, (arm, (start, how)) in enumerate(ARMS.items()):
            words = f"{FINETUNE.format(run=start)}{how} train.seed={seed} --out {FOLDER}/finetuned-{number}-{seed}"
            seconds[arm] += run(words) / len(SEEDS)
    run(f"predict {FOLDER}/finetuned-0-0 {FOLDER}/sample.csv --text-column review --out {FOLDER}/predictions.csv")
    spread = f"range of {len(SEEDS)} seeds"
    print("\n" + LINE.format(f"accuracy on {JUDGED:,} reviews, {LABELS:,} labels", "mean", spread, "CPU s"))
    found = {arm: statistics.mean(accuracies(number)) for number, arm in enumerate(ARMS)}
    for number, (arm, (start, how)) in enumerate(ARMS.items()):
        print(network(arm, accuracies(number), seconds[arm] + (0 if how else spent[start])))
    for name, longest in (("TF-IDF of words, logistic regression", 1), ("TF-IDF of words and word pairs", 2)):
        before = time.process_time()
        found[name] = baseline(rows, longest=longest)
        print(LINE.format(name, f"{found[name]:.4f}", "", f"{time.process_time() - before:.0f}"))
    print(f"\n{sizes()}")
    print(advice(found))
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


def accuracies(number: int) -> list[float]:
    """Of each seed."""
    results = ((FOLDER / f"finetuned-{number}-{seed}" / "result.json").read_text(encoding="utf-8") for seed in SEEDS)
    return [float(json.loads(result)["accuracy"]) for result in results]


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


def advice(found: dict[str, float]) -> str:
    """What follows from the table, whose first line is the pre-trained network's."""
    pretrained, *_ = found.values()
    best = max(list(found)[1:], key=lambda name: found[name])
    if pretrained <= found[best]:
        return f"Pre-training was not worth its seconds here: {best!r} is as good. Try it first on your own data."
    points = 100 * (pretrained - found[best])
    return (
        f"Pre-training gains {points:.0f} points over the next best line, with {LABELS:,} labels. In these made-up\n"
        "reviews the order of words decides, of which counting sees a part: pre-train on your own texts, and\n"
        "look at the same lines."
    )


if __name__ == "__main__":
    demonstrate()
