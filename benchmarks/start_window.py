"""What co-occurrence vectors say of a text, by how far apart tokens may stand that count as a pair.

For each window the vectors that a run would start from (`model.embedding.start_window`) are counted in prepared data,
which must not have the judged rows' texts. A logistic regression reads a text's mean of them, in which rare tokens
weigh more (`sif`), from a few labels drawn at random; TF-IDF of words and pairs stands beside it on the same rows.

    python benchmarks/start_window.py prepared imdb.csv --text-column review --label-column sentiment --out result.json
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from counting import tfidf_accuracy
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from quorem.arrangement.cooccurrence import cooccurrence_vectors
from quorem.config.finetuning import LabelledDataSettings
from quorem.data.corpus import Corpus
from quorem.data.shards import Shards
from quorem.data.source import Source
from quorem.finetuning.rows import split
from quorem.models.sif import SMOOTHING
from quorem.tokenization.files import load_tokenizer
from quorem.tokenization.special import SPECIAL_IDS

PENALTIES = {"logisticregression__C": np.logspace(-4, 1, 8)}


def bags(texts: list[str], tokenizer_folder: Path, counts: np.ndarray) -> csr_matrix:
    """Weights (n, V) whose products with vectors are the texts' means; a token weighs a / (a + p)."""
    tokenizer = load_tokenizer(tokenizer_folder)
    weight = SMOOTHING / (SMOOTHING + counts / counts.sum())
    weight[:SPECIAL_IDS] = 0
    rows = [np.array(ids, np.int64) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]]
    ids, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    found = csr_matrix((weight[ids], (owner, ids)), shape=(len(texts), len(counts)))
    return csr_matrix(found.multiply(1 / np.asarray(found.sum(1)).clip(1e-12)))


def main() -> None:
    """Judge every window, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prepared", type=Path, help="a folder of quorem prepare, without the judged rows' texts")
    parser.add_argument("csv")
    parser.add_argument("--text-column", required=True)
    parser.add_argument("--label-column", required=True)
    parser.add_argument("--windows", type=int, nargs="+", default=[5, 20, 50])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--share", type=float, default=0.1, help="of rows that are judged, drawn by 0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the labels drawn")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    source = Source.of(
        LabelledDataSettings(path=options.csv), text_column=options.text_column, label_column=options.label_column
    )
    documents = list(source.documents())
    texts, labels = [each.text or "" for each in documents], np.array([each.label for each in documents])
    others, judged = split(len(documents), share=options.share, seed=0)
    draws = [np.random.RandomState(seed).permutation(others)[: options.labels] for seed in options.seeds]
    corpus = Corpus(Shards(options.prepared / "shards"), None)
    bag = bags(texts, options.prepared / "tokenizer", corpus.counts)
    found: dict[str, dict[str, object]] = {}

    def judge(name: str, read: list[float], seconds: float) -> None:
        found[name] = {"accuracy": read, "mean": float(np.mean(read)), "processor_seconds": round(seconds, 1)}
        print(name, found[name], flush=True)
        settings = {key: str(value) for key, value in vars(options).items()}
        result = {"settings": settings, "judged": len(judged), "found": found}
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

    for window in options.windows:
        start = time.process_time()
        vectors = cooccurrence_vectors(corpus, components=options.width, window=window)
        seconds, read = time.process_time() - start, []
        means = bag @ vectors
        for drawn in draws:
            reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            fitted = GridSearchCV(reader, PENALTIES, cv=5).fit(means[drawn], labels[drawn])
            read.append(float(fitted.score(means[judged], labels[judged])))
        judge(f"window {window}", read, seconds)
    read, start = [], time.process_time()
    for drawn in draws:
        rows, truth = (
            ([texts[i] for i in drawn], list(labels[drawn])),
            ([texts[i] for i in judged], list(labels[judged])),
        )
        read.append(tfidf_accuracy(*rows, *truth, inverse_penalty=30))
    judge("TF-IDF", read, time.process_time() - start)


if __name__ == "__main__":
    main()
