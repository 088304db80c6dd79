"""What whole documents and the n-gram branch give, on few labels or all.

    python benchmarks/finetuning.py runs/imdb imdb.csv.gz --text-column review --label-column sentiment \
        --labels 2000 --judged 5000 --seeds 0 1 --out results.json train.epochs=4 data.max_length=128

The rows that are judged are those that scikit-learn's train_test_split holds out with random_state 0; those that are
trained on are drawn from the others with seed 0. Every arm is a run folder beside OUT, and what is finished is not done
again.
"""

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from quorem.config.finetuning import FinetuneConfig, LabelledDataSettings
from quorem.config.loading import override
from quorem.data.source import Source
from quorem.finetuning.rows import split
from quorem.tasks import finetune

ARMS = {
    "both ends": ["data.truncation=both"],
    "windows": ["data.truncation=windows"],
    "both ends, n-grams": ["data.truncation=both", "classifier.ngrams=2"],
    "windows, n-grams": ["data.truncation=windows", "classifier.ngrams=2"],
}


def write_rows(options: argparse.Namespace, out: Path) -> None:
    """A CSV with the columns text, label and part: `labels` rows to train on and `judged` to judge."""
    data = LabelledDataSettings(path=options.csv)
    source = Source.of(data, text_column=options.text_column, label_column=options.label_column)
    documents = list(source.documents())
    others, judged = split(len(documents), share=options.share, seed=0)
    trained = np.random.RandomState(0).permutation(others)[: options.labels or None]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "part"))
        for part, rows in (("train", trained), ("test", judged[: options.judged or None])):
            writer.writerows((documents[i].text, documents[i].label, part) for i in rows)


def main() -> None:
    """Run what is not done yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("csv")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--text-column", default="review")
    parser.add_argument("--label-column", default="sentiment")
    parser.add_argument("--labels", type=int, default=0, help="rows to train on; 0 for all")
    parser.add_argument("--judged", type=int, default=0, help="held-out rows to judge; 0 for all")
    parser.add_argument("--share", type=float, default=0.1, help="of rows that are held out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    rows = options.out.with_suffix(".csv")
    write_rows(options, rows)
    base = [f"pretrained={options.run}", f"data.path={rows}", "data.split_column=part", *options.settings]
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for seed in options.seeds:
        for arm in options.arms:
            name, began = f"{arm}, seed {seed}", time.process_time()
            if name in results:
                continue
            config = override(FinetuneConfig(), [*base, *ARMS[arm], f"train.seed={seed}"])
            found = finetune(config, options.out.with_suffix("") / name.replace(", ", "-").replace(" ", "-"))
            results[name] = {"last": found["last"]["accuracy"], "best": found["accuracy"], "epoch": found["epoch"]}
            results[name]["processor_seconds"] = round(time.process_time() - began)
            print(f"{name}: {results[name]}", flush=True)
            options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
