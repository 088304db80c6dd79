"""The whole way on the built-in sample, without a download: pre-train, fine-tune, the control, predict, and baselines.

Prints every command as you would type it, then one table. Is pre-training worth its seconds? The same network from new
weights says so; is a network worth it at all? Linear models on word counts say so. Run from the repository's root,
after `pip install .`:

    python examples/demo.py
"""
# ruff: noqa: T201 - a demonstration prints

import csv
import json
import shlex
import shutil
import sys
import time
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from quorem.cli import main
from quorem.config.finetuning import LabelledDataSettings
from quorem.finetuning.rows import split

FOLDER = Path("runs/demo")
COLUMNS = "--text-column review --label-column sentiment"
FINETUNE = "train.epochs=2"
COMMANDS = {
    "sample": f"sample reviews --rows 20000 --out {FOLDER}/reviews.csv",
    "pre-training": f"pretrain {FOLDER}/reviews.csv --text-column review --out {FOLDER}/pretrained "
    "model.size=tiny model.embedding.kind=qr model.vocab_size=30000 train.epochs=2 train.log_every=50",
    "fine-tuning": f"finetune {FOLDER}/pretrained {FOLDER}/reviews.csv {COLUMNS} --out {FOLDER}/finetuned {FINETUNE}",
    "from scratch": f"finetune {FOLDER}/pretrained {FOLDER}/reviews.csv {COLUMNS} --from-scratch "
    f"--out {FOLDER}/scratch {FINETUNE}",
    "new sample": f"sample reviews --rows 2000 --seed 1 --out {FOLDER}/new.csv",
    "prediction": f"predict {FOLDER}/finetuned {FOLDER}/new.csv --text-column review --out {FOLDER}/predicted.csv",
}
LINE = "{:<34}{:>12}{:>12}{:>10}"


def demonstrate() -> None:
    """Run every command, fit the baselines and print the table.

    Raises:
        SystemExit: with the exit code of a command that failed.
    """
    shutil.rmtree(FOLDER, ignore_errors=True)
    seconds = {stage: run(command) for stage, command in COMMANDS.items()}
    rows = [
        network("fine-tuned", FOLDER / "finetuned", seconds["pre-training"] + seconds["fine-tuning"]),
        network("from scratch", FOLDER / "scratch", seconds["from scratch"]),
        baseline("TF-IDF, words", longest=1),
        baseline("TF-IDF, words and word pairs", longest=2),
    ]
    print("\n" + LINE.format("held-out accuracy", "last epoch", "best epoch", "seconds"))
    for row in rows:
        print(LINE.format(*row))
    print("(fine-tuned: its seconds include pre-training; the best epoch is chosen on the rows it is reported on)")
    print("\n" + ", ".join(f"{stage} {elapsed:.0f} s" for stage, elapsed in seconds.items()))
    with (FOLDER / "predicted.csv").open(encoding="utf-8", newline="") as file:
        predicted = list(csv.DictReader(file))
    right = sum(row["prediction"] == row["sentiment"] for row in predicted)
    print(f"fine-tuned, on {len(predicted)} new reviews that no phase has read: accuracy {right / len(predicted):.4f}")


def run(command: str) -> float:
    """Print and run one `quorem` command; the seconds it took.

    Raises:
        SystemExit: if it failed, or was told to stop.
    """
    print(f"\n$ quorem {command}", flush=True)
    start, words = time.perf_counter(), shlex.split(command)
    code = main(words)
    out = Path(words[words.index("--out") + 1])
    if code or (words[0] in ("pretrain", "finetune") and not (out / "result.json").exists()):
        sys.exit(code)
    return time.perf_counter() - start


def network(name: str, folder: Path, elapsed: float) -> tuple[str, str, str, str]:
    """A line of the table for a fine-tuning run; the best epoch was chosen on the rows it is reported on."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return name, f"{result['last']['accuracy']:.4f}", f"{result['accuracy']:.4f}", f"{elapsed:.0f}"


def baseline(name: str, *, longest: int) -> tuple[str, str, str, str]:
    """A line of the table for logistic regression on TF-IDF, on the split that fine-tuning makes.

    Args:
        name: what the line is called.
        longest: of the runs of words that are counted: 1, or 2 for single words and pairs.
    """
    start, data = time.perf_counter(), LabelledDataSettings()
    with (FOLDER / "reviews.csv").open(encoding="utf-8", newline="") as file:
        reviews = list(csv.DictReader(file))
    training, held_out = (
        [reviews[i] for i in part] for part in split(len(reviews), share=data.validation_share, seed=data.split_seed)
    )
    vectorizer = TfidfVectorizer(ngram_range=(1, longest), sublinear_tf=True, min_df=2)
    model = LogisticRegression(C=10, max_iter=1000)
    model.fit(vectorizer.fit_transform([row["review"] for row in training]), [row["sentiment"] for row in training])
    counted = vectorizer.transform([row["review"] for row in held_out])
    accuracy = model.score(counted, [row["sentiment"] for row in held_out])
    return name, f"{accuracy:.4f}", "", f"{time.perf_counter() - start:.0f}"


if __name__ == "__main__":
    demonstrate()
