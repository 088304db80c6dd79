"""What pre-training gave: frozen probe, fine-tuning over seeds, and the control from scratch over the same seeds.

    python benchmarks/imdb.py runs/imdb reviews.csv --text-column review --label-column sentiment \
        --seeds 0 1 2 --out results.json train.epochs=2 data.truncation=both

The probe is logistic regression on standardised hidden states of the frozen discriminator, pooled (mean and max) over
tokens, of the last layer and of all layers. Every fine-tuning is a run folder of its own beside RUN, and what is
finished is not done again, so the benchmark can be stopped and started.
"""

import argparse
import json
import os
import time
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

from quorem.classifier import pool
from quorem.config import FinetuneConfig, override
from quorem.data.batches import collate
from quorem.finetune import finetune, load_examples, model_folder, resolve
from quorem.tasks.classification import split
from quorem.tokenization import load_tokenizer
from quorem.train import autocast_dtype


@torch.no_grad()
def features(model: torch.nn.Module, rows: list[list[int]], *, pad_id: int) -> np.ndarray:
    """Mean- and max-pooled hidden states float32 (rows, layers + 1, 2 x hidden_size)."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    dtype, found = autocast_dtype("auto", model.device), None
    for start in range(0, len(order), 64):
        chosen = order[start : start + 64]
        input_ids, mask = collate([rows[i] for i in chosen], pad_id=pad_id)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
            states = model(input_ids, mask, output_hidden_states=True).hidden_states
        pooled = torch.stack(
            [torch.cat([pool(s.float(), mask, how) for how in ("mean", "max")], -1) for s in states], 1
        )
        found = np.empty((len(rows), *pooled.shape[1:]), np.float32) if found is None else found
        found[chosen] = pooled.numpy()
    return found


def probe(config: FinetuneConfig) -> dict[str, float]:
    """Held-out accuracy of a linear model on the frozen encoder's pooled states, and on its embeddings alone."""
    source = model_folder(config.pretrained)
    tokenizer = load_tokenizer(source)
    _, examples = load_examples(config, tokenizer)
    training, held_out = split(len(examples), share=config.data.validation_share, seed=config.data.split_seed)
    found = features(AutoModel.from_pretrained(source).eval(), examples.rows, pad_id=tokenizer.pad_token_id)
    labels, scores = np.asarray(examples.labels), {}
    for name, columns in (
        ("embeddings", found[:, 0]),
        ("last layer", found[:, -1]),
        ("all layers", found.reshape(len(found), -1)),
    ):
        linear = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300))
        scores[name] = float(linear.fit(columns[training], labels[training]).score(columns[held_out], labels[held_out]))
        print(f"probe, {name}: {scores[name]:.4f}", flush=True)
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
            results[what] = probe(resolve(override(FinetuneConfig(), base)))
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
