"""What pre-training gave: frozen probe, fine-tuning over seeds, and the control from scratch over the same seeds.

    python benchmarks/imdb.py runs/imdb reviews.csv --text-column review --label-column sentiment \
        --seeds 0 1 2 --out results.json train.epochs=2 data.truncation=both

The probe is logistic regression on standardised hidden states of the frozen discriminator, pooled over all tokens of a
text, which is read in windows of the length of pre-training: with few pooled numbers and with many, of all layers and
of single ones; beside it stands the same encoder with fresh weights. Every fine-tuning is a run folder of its own
beside RUN, and what is finished is not done again, so the benchmark can be stopped and started.
"""

import argparse
import itertools
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import AutoModel
from transformers.utils import logging as transformers_logging

from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import override
from quorem.data.batches import collate
from quorem.data.documents import RowCounts
from quorem.finetuning.checkpoint import model_folder
from quorem.finetuning.rows import split
from quorem.tasks import finetune
from quorem.tasks.classification import Classification
from quorem.tokenization import load_tokenizer
from quorem.training.device import autocast_dtype

POOLS = ("mean", "deviation", "maximum", "minimum")  # the last as its negative
PROBES: dict[str, tuple[slice, int]] = {  # name -> layers, and how many of POOLS
    "all layers, mean": (slice(None), 1),
    "all layers, mean and deviation": (slice(None), 2),
    "all layers, all pools": (slice(None), 4),
    "last layer, mean": (slice(-1, None), 1),
    "embeddings, mean": (slice(1), 1),
}


def windows(row: list[int], length: int) -> list[list[int]]:
    """A whole text as pieces of nearly equal length, each [CLS] ... [SEP], of at most `length` tokens."""
    body, count = row[1:-1], max(1, -(-(len(row) - 2) // (length - 2)))
    cuts = [len(body) * i // count for i in range(count + 1)]
    return [[row[0], *body[i:j], row[-1]] for i, j in itertools.pairwise(cuts)]


@torch.no_grad()
def features(model: Any, rows: list[list[int]], *, pad_id: int, length: int) -> np.ndarray:
    """Hidden states pooled over all tokens of a text, float32 (rows, layers + 1, len(POOLS), hidden_size)."""
    pieces = [(i, piece) for i, row in enumerate(rows) for piece in windows(row, length)]
    pieces.sort(key=lambda item: len(item[1]))
    dtype, found = autocast_dtype("auto", model.device), None
    for start in range(0, len(pieces), 64):
        chosen = pieces[start : start + 64]
        input_ids, mask = collate([piece for _, piece in chosen], pad_id=pad_id)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            states = torch.stack(model(input_ids, mask, output_hidden_states=True).hidden_states, 1).float()
        real = (torch.ones_like(input_ids) if mask is None else mask).bool()[:, None, :, None]
        kept = states.masked_fill(~real, 0)
        sums = torch.stack([kept.sum(2), kept.square().sum(2)], 2).numpy()
        tops = torch.stack([states.masked_fill(~real, -1e9).amax(2), (-states).masked_fill(~real, -1e9).amax(2)], 2)
        if found is None:
            layers, width = states.shape[1], states.shape[3]
            found = np.zeros((len(rows), layers, 4, width), np.float32)
            found[:, :, 2:] = -1e9
        owners = np.asarray([i for i, _ in chosen])
        np.add.at(found[:, :, :2], owners, sums)
        np.maximum.at(found[:, :, 2:], owners, tops.numpy())
    assert found is not None
    lengths = np.zeros((len(rows), 1, 1), np.float32)
    np.add.at(lengths, [i for i, _ in pieces], np.asarray([[[len(piece)]] for _, piece in pieces], np.float32))
    found[:, :, 0] /= lengths
    found[:, :, 1] = np.sqrt(np.maximum(found[:, :, 1] / lengths - found[:, :, 0] ** 2, 1e-6))
    return found


def linear_accuracy(
    found: np.ndarray, labels: np.ndarray, training: np.ndarray, held_out: np.ndarray
) -> dict[str, float]:
    """Held-out accuracy of logistic regression; its regularisation is chosen on a tenth of the training rows."""
    fit, chosen_on = training[: len(training) * 9 // 10], training[len(training) * 9 // 10 :]

    def model(c: float, rows: np.ndarray) -> Any:
        regression = LogisticRegression(C=c, solver="newton-cholesky")  # lbfgs needs thousands of steps here
        return make_pipeline(StandardScaler(), regression).fit(found[rows], labels[rows])

    best = max((0.001, 0.01, 0.1, 1.0, 10.0), key=lambda c: model(c, fit).score(found[chosen_on], labels[chosen_on]))
    return {"accuracy": float(model(best, training).score(found[held_out], labels[held_out])), "C": best}


def probe(config: FinetuneConfig, length: int) -> dict[str, dict[str, float]]:
    """Linear models on the frozen encoder's pooled states, on its embeddings alone, and on an untrained encoder's."""
    source = model_folder(config.pretrained)
    tokenizer = load_tokenizer(source)
    whole = replace(config, data=replace(config.data, max_length=1_000_000, truncation="head"))
    task = Classification()
    examples, _ = task.read(whole, tokenizer, task.source(whole.data), RowCounts())
    training, held_out = split(len(examples), share=config.data.validation_share, seed=config.data.split_seed)
    model, labels, scores = AutoModel.from_pretrained(source).eval(), np.asarray(examples.labels), {}
    for weights in ("pre-trained", "untrained"):
        if weights == "untrained":
            torch.manual_seed(0)
            model = AutoModel.from_config(model.config).eval()
        found = features(model, examples.rows, pad_id=tokenizer.pad_token_id, length=length)
        for name, (layers, pools) in PROBES.items():
            columns = found[:, layers, :pools].reshape(len(found), -1)
            scores[f"{weights}, {name}"] = linear_accuracy(columns, labels, np.asarray(training), np.asarray(held_out))
            print(f"probe, {weights}, {name}: {scores[f'{weights}, {name}']}", flush=True)
    return scores


def main() -> None:
    """Run what is not done yet and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("csv")
    parser.add_argument("settings", nargs="*")
    parser.add_argument("--text-column", default="review")
    parser.add_argument("--label-column", default="sentiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--window", type=int, default=128, help="tokens the probe reads at a time")
    parser.add_argument("--only", nargs="+", default=["probe", "pretrained", "scratch"])
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_intermixed_args()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    base = [f"pretrained={options.run}", f"data.path={options.csv}", f"data.text_column={options.text_column}"]
    base += [f"data.label_column={options.label_column}", *options.settings]
    results: dict[str, Any] = json.loads(options.out.read_text()) if options.out.exists() else {}
    for what in options.only:
        if what == "probe" and what not in results:
            results[what] = probe(Classification().resolve(override(FinetuneConfig(), base)), options.window)
        for seed in options.seeds if what != "probe" else []:
            name, began = f"{what}-{seed}", time.perf_counter()
            if name in results:
                continue
            control = ["classifier.from_scratch=true"] if what == "scratch" else []
            config = override(FinetuneConfig(), [*base, *control, f"train.seed={seed}"])
            found = finetune(config, Path(f"{options.run}-{name}"))
            results[name] = {key: found[key] for key in ("accuracy", "f1", "epoch", "last")} | {
                "seconds": time.perf_counter() - began
            }
            print(f"{name}: {found['accuracy']:.4f} (last epoch {found['last']['accuracy']:.4f})", flush=True)
            options.out.write_text(json.dumps(results, indent=1))
        options.out.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
