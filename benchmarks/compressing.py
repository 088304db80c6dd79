r"""What a trained model loses when `quorem compress` makes its token table smaller.

    python benchmarks/compressing.py runs/next --rows test.txt --ratios 5 10 20 50 --out results.json
    python benchmarks/compressing.py runs/sentiment --rows test.csv --columns review sentiment --out results.json
    python benchmarks/compressing.py work/dense-0/run --judge work --settings data.max_length=64 --out results.json

A run of next_item is judged on rows whose last item is the target, among all items, seen ones left out or not as the
run has it; a classifier on the rows of a CSV, those whose `split` is test where there is such a column; a pre-training
run by learning.py's judge, from the folder that has its held-out text. The run itself is judged in the same way, as
ratio 1. What is finished is kept in --out and not done again.
"""

import argparse
import csv
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from learning import Judge
from transformers.utils import logging as transformers_logging

import quorem
from quorem.config.loading import override
from quorem.config.next_item import SessionDataSettings
from quorem.config.settings import PretrainConfig
from quorem.data.documents import RowCounts
from quorem.data.sessions import read_sessions
from quorem.exporting.compress import compress
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining
from quorem.models.next_item import load_next_item
from quorem.plan.recipes import resolve
from quorem.recommending.parts import session_source
from quorem.recommending.ranking import judge
from quorem.tokenization import Unknown, load_tokenizer
from quorem.training.run_folder import read_settings


def ranked(folder: Path, rows: Path, settings: dict[str, Any]) -> dict[str, float]:
    """Hit rate, NDCG and MRR on rows of items; not what depends on the training rows' counts."""
    model, tokenizer = load_next_item(folder), load_tokenizer(folder / "model")
    source = session_source(SessionDataSettings(path=str(rows)))
    cases, _ = read_sessions(source, tokenizer, RowCounts(), Unknown(), keep_target=True)
    most, seen = settings["data"]["max_items"], settings["next_item"]["exclude_seen"]
    counts = cases.counts(model.config.vocab_size)
    found = judge(lambda histories: model.scores(histories, max_items=most), cases, counts, exclude_seen=seen)
    return {name: value for name, value in found.items() if not name.startswith(("coverage", "popularity"))}


def classified(folder: Path, rows: list[dict[str, str]], columns: list[str]) -> dict[str, float]:
    """Accuracy on labelled rows."""
    found = quorem.load(folder).predict([row[columns[0]] for row in rows])
    right = sum(each["label"] == row[columns[1]] for each, row in zip(found, rows, strict=True))
    return {"rows": len(rows), "accuracy": right / len(rows)}


def pretrained(folder: Path, work: Path, settings: list[str]) -> dict[str, float]:
    """The generator's nll on held-out text, and the discriminator's AUC on replacements by frequency."""
    held_out = Judge(work, resolve(override(PretrainConfig(), [f"data.path={work / 'training'}", *settings])))
    held_out.draw_by_frequency()
    generator = QuoremForMaskedLM.from_pretrained(folder / "generator").eval()
    discriminator = QuoremForPreTraining.from_pretrained(folder / "discriminator").eval()
    return {"nll": held_out.nll(generator), "auc_unigram": held_out.auc(discriminator, "unigram")}


def main() -> None:
    """Judge the run, and the run at each ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--rows", type=Path, help="of a fine-tuned run")
    what.add_argument("--judge", type=Path, help="the --data of learning.py, of a pre-training run")
    parser.add_argument("--columns", nargs=2, metavar=("TEXT", "LABEL"), help="of a CSV; the rows are of items without")
    parser.add_argument("--settings", nargs="+", default=[], help="with --judge: learning.py's, less the tokenizer's")
    parser.add_argument("--ratios", type=float, nargs="+", default=[5, 10, 20, 50])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(1)
    transformers_logging.disable_progress_bar()
    facts = {"judged on": (options.rows or options.judge).name, "settings": options.settings}
    results: dict[str, Any] = dict(facts)
    if options.out.exists():
        results = json.loads(options.out.read_text(encoding="utf-8"))
        if any(results[name] != value for name, value in facts.items()):
            parser.error(f"{options.out} holds other rows or settings: give another --out")
    labelled: list[dict[str, str]] = []
    if options.columns:
        with options.rows.open(encoding="utf-8", newline="") as file:
            labelled = [row for row in csv.DictReader(file) if row.get("split", "test") == "test"]
    settings = read_settings(options.run / "config.yaml")
    for ratio in (1.0, *options.ratios):
        key = f"{options.run}, {ratio:g}x"
        if key in results:
            continue
        with tempfile.TemporaryDirectory() as place:
            folder, began = options.run, time.process_time()
            found: dict[str, Any] = {}
            if ratio > 1:
                folder = Path(place) / "small"
                found["said"] = compress(options.run, folder, compression=f"{ratio}x")
                found["processor_seconds"] = round(time.process_time() - began, 1)
            if options.judge:
                found |= pretrained(folder, options.judge, options.settings)
            elif options.columns:
                found |= classified(folder, labelled, options.columns)
            else:
                found |= ranked(folder, options.rows, settings)
        results[key] = found
        print(f"{key}: {found}", flush=True)
        options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
