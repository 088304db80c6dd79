"""What vectors of texts are worth: each pooling of a pre-trained encoder and of an untrained one, by label.

A logistic regression reads the vectors of training rows, and of 10 nearest neighbours by cosine (their mean taken off)
the share with a row's own label is counted. Beside them stands TF-IDF of words and pairs on the same rows.

    python benchmarks/vectors.py runs/imdb imdb.csv --text-column review --label-column sentiment --out result.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from counting import tfidf_accuracy
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quorem.config.finetuning import LabelledDataSettings
from quorem.data.source import Source
from quorem.finetuning.rows import split
from quorem.models.modeling import QuoremModel
from quorem.vectors.encoder import POOLINGS, encode_texts, load_encoder

NEIGHBOURS = 10


def rows_of(options: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """Texts and labels: those to learn from first, then those judged (of the rows that a split by 0 holds out)."""
    data = LabelledDataSettings(path=options.csv)
    source = Source.of(data, text_column=options.text_column, label_column=options.label_column)
    documents = list(source.documents())
    others, judged = split(len(documents), share=options.share, seed=0)
    if len(others) < options.labels:
        raise SystemExit(
            f"{options.csv}: {len(others)} rows are left to learn from: give fewer --labels or less --share"
        )
    draw = np.random.RandomState(options.seed)
    chosen = [*draw.permutation(others)[: options.labels], *draw.permutation(judged)[: options.judged]]
    return [documents[i].text or "" for i in chosen], np.array([documents[i].label for i in chosen])


def neighbours(vectors: np.ndarray, labels: np.ndarray) -> float:
    """The share of nearest rows by cosine that have a row's label."""
    centred = vectors - vectors.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True).clip(1e-12)
    scores = centred @ centred.T
    np.fill_diagonal(scores, -2)
    nearest = np.argsort(-scores, axis=1)[:, :NEIGHBOURS]
    return float((labels[nearest] == labels[:, None]).mean())


def judged(vectors: np.ndarray, labels: np.ndarray, num_train: int) -> dict[str, float]:
    """Accuracy of a regression that learns from the first rows, and agreement of neighbours, on the others."""
    reader = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    reader.fit(vectors[:num_train], labels[:num_train])
    accuracy = reader.score(vectors[num_train:], labels[num_train:])
    return {"accuracy": float(accuracy), "neighbours": neighbours(vectors[num_train:], labels[num_train:])}


def main() -> None:
    """Judge every pooling, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("csv")
    parser.add_argument("--text-column", required=True)
    parser.add_argument("--label-column", required=True)
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--judged", type=int, default=1500)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    texts, labels = rows_of(options)
    network, tokenizer = load_encoder(options.run)
    torch.manual_seed(options.seed)
    untrained = QuoremModel(network.config).eval()
    found: dict[str, dict[str, float]] = {}
    for name, encoder in {"pre-trained": network, "untrained": untrained}.items():
        for pooling in POOLINGS:
            start = time.process_time()
            vectors = encode_texts(
                encoder, tokenizer, texts, pooling=pooling, max_length=options.max_length, dtype=torch.bfloat16
            )
            seconds = time.process_time() - start
            found[f"{name}, {pooling}"] = judged(vectors.numpy(), labels, options.labels) | {"seconds": seconds}
            print(f"{name}, {pooling}", found[f"{name}, {pooling}"], flush=True)
    names, end = list(labels), options.labels
    accuracy = tfidf_accuracy(texts[:end], names[:end], texts[end:], names[end:], inverse_penalty=30)
    found["TF-IDF"] = {"accuracy": accuracy}
    print("TF-IDF", found["TF-IDF"])
    settings = {name: str(value) for name, value in vars(options).items()}
    options.out.write_text(json.dumps({"settings": settings, "found": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
