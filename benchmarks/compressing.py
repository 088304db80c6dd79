r"""What a trained model loses when `quorem compress` makes its token table smaller.

    python benchmarks/compressing.py runs/next --rows test.txt --ratios 5 10 20 50 --out results.json
    python benchmarks/compressing.py runs/sentiment --rows test.csv --columns review sentiment --out results.json

A run of next_item is judged on rows whose last item is the target, among all items, seen ones left out or not as the
run has it; a classifier on the labels of a CSV. The model itself is judged in the same way, as ratio 1. What is
finished is kept in --out and not done again.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import quorem
from quorem.config.next_item import SessionDataSettings
from quorem.data.documents import RowCounts
from quorem.data.sessions import read_sessions
from quorem.exporting.compress import compress
from quorem.models.next_item import load_next_item
from quorem.recommending.parts import session_source
from quorem.recommending.ranking import judge
from quorem.tokenization import Unknown, load_tokenizer
from quorem.training.run_folder import read_settings


def ranked(folder: Path, rows: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Hit rate, NDCG and MRR on rows of items."""
    model, tokenizer = load_next_item(folder), load_tokenizer(folder / "model")
    source = session_source(SessionDataSettings(path=str(rows)))
    cases, _ = read_sessions(source, tokenizer, RowCounts(), Unknown(), keep_target=True)
    most = settings["data"].get("max_items", SessionDataSettings().max_items)
    counts = cases.counts(model.config.vocab_size)
    seen = settings["next_item"].get("exclude_seen", False)
    return judge(lambda each: model.scores(each, max_items=most), cases, counts, exclude_seen=seen)


def classified(folder: Path, rows: list[dict[str, str]], columns: list[str]) -> dict[str, float]:
    """Accuracy on labelled rows."""
    found = quorem.load(folder).predict([row[columns[0]] for row in rows])
    right = sum(each["label"] == row[columns[1]] for each, row in zip(found, rows, strict=True))
    return {"rows": len(rows), "accuracy": right / len(rows)}


def main() -> None:
    """Judge the run, and the run at each ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--columns", nargs=2, metavar=("TEXT", "LABEL"), help="of a CSV; the rows are of items without")
    parser.add_argument("--ratios", type=float, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = (
        json.loads(options.out.read_text()) if options.out.exists() else {"rows": options.rows.name}
    )
    labelled: list[dict[str, str]] = []
    if options.columns:
        with options.rows.open(encoding="utf-8", newline="") as file:
            labelled = list(csv.DictReader(file))
    settings = read_settings(options.run / "config.yaml")
    for ratio in (1.0, *options.ratios):
        key = f"{options.run.name}, {ratio:g}x"
        if key in results:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder, began = options.run, time.process_time()
            found: dict[str, Any] = {}
            if ratio > 1:
                folder = Path(place) / "small"
                found["said"] = compress(options.run, folder, compression=f"{ratio}x")[0]
                found["processor_seconds"] = round(time.process_time() - began, 1)
            found |= (
                classified(folder, labelled, options.columns) if labelled else ranked(folder, options.rows, settings)
            )
        results[key] = found
        print(f"{key}: {found}", flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
