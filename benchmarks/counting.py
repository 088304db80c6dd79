"""What counting alone gives, on the rows that models are judged on: the bar below which pre-training is of no use.

`cooccurrence_nll` predicts a masked token from counts of what stands near it; `tfidf_accuracy` and `nbsvm_accuracy`
classify by words and pairs of words.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.sparse import csr_matrix, diags
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from quorem.data.shards import Shards

WINDOW = 4
WEIGHTS = tuple(np.linspace(0, 1, 21)[1:-1])


def near(shards: Shards) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """For each document its tokens, and for each of these the tokens up to WINDOW away, -1 where there is none."""
    starts = np.concatenate([[0], shards.ends[:-1]])
    for start, end in zip(starts.tolist(), shards.ends.tolist(), strict=True):
        tokens = np.asarray(shards.tokens[start : end - 1]).astype(np.int64)
        padded = np.pad(tokens, WINDOW, constant_values=-1)
        offsets = [offset for offset in range(-WINDOW, WINDOW + 1) if offset]
        yield tokens, np.stack([padded[WINDOW + o : WINDOW + o + len(tokens)] for o in offsets], axis=-1)


def pair_probabilities(shards: Shards, vocab_size: int) -> csr_matrix:
    """p(token | a token near it), (V, V): rows are the tokens near."""
    rows, columns = [], []
    for tokens, neighbours in near(shards):
        there = neighbours >= 0
        rows.append(neighbours[there])
        columns.append(np.broadcast_to(tokens[:, None], neighbours.shape)[there])
    place = (np.concatenate(rows), np.concatenate(columns))
    counted = csr_matrix((np.ones(len(place[0])), place), shape=(vocab_size, vocab_size))
    counted.sum_duplicates()
    total = np.asarray(counted.sum(1)).ravel().clip(min=1)
    counted.data /= np.repeat(total, np.diff(counted.indptr))
    return counted


def cooccurrence_nll(training: Shards, held_out: Shards) -> dict[str, float]:
    """Mean -log p (nats) of held-out tokens: w mean over near tokens of p(token | near) + (1 - w) unigram.

    The weight w is the best for the held-out tokens, which favours counting.
    """
    counts = training.counts.astype(float).clip(min=0.5)
    unigram = counts / counts.sum()
    pairs = pair_probabilities(training, len(counts))
    of_pairs, alone = [], []
    for tokens, neighbours in near(held_out):
        there = neighbours >= 0
        values = np.zeros(neighbours.shape)
        values[there] = np.asarray(
            pairs[neighbours[there], np.broadcast_to(tokens[:, None], neighbours.shape)[there]]
        ).ravel()
        of_pairs.append(values.sum(1) / there.sum(1).clip(min=1))
        alone.append(unigram[tokens])
    found, base = np.concatenate(of_pairs), np.concatenate(alone)
    best = min(WEIGHTS, key=lambda weight: -np.log(weight * found + (1 - weight) * base).mean())
    return {
        "unigram": float(-np.log(base).mean()),
        "cooccurrence": float(-np.log(best * found + (1 - best) * base).mean()),
        "weight": float(best),
    }


def tfidf_accuracy(
    texts: Sequence[str],
    labels: Sequence[str],
    judged: Sequence[str],
    truth: Sequence[str],
    *,
    inverse_penalty: float = 10,
) -> float:
    """TF-IDF of words and pairs, logistic regression (its C is `inverse_penalty`; 30 is better with few labels)."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, 2))
    model = LogisticRegression(C=inverse_penalty, max_iter=1000).fit(vectorizer.fit_transform(texts), labels)
    return float(model.score(vectorizer.transform(judged), truth))


def nbsvm_accuracy(texts: Sequence[str], labels: Sequence[str], judged: Sequence[str], truth: Sequence[str]) -> float:
    """NB-SVM (Wang and Manning 2012): presence of words and pairs times the log ratio of their counts in two classes.

    Punctuation counts as words, and a text's features are divided by the root of their number; both help on film
    reviews. The penalty of a logistic regression is chosen on a quarter of the training rows.
    """
    enough = 3 if len(texts) > 5000 else 1
    vectorizer = CountVectorizer(binary=True, min_df=enough, ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]")
    counts = vectorizer.fit_transform(texts)
    names, target = sorted(set(labels)), np.asarray(labels)

    def shortened(features: csr_matrix) -> csr_matrix:
        return diags(np.asarray(features.sum(1)).ravel().clip(min=1) ** -0.5) @ features

    def score(rows: np.ndarray, inverse_penalty: float, features: csr_matrix, expected: np.ndarray) -> float:
        in_favour, against = (np.asarray(counts[rows][target[rows] == name].sum(0)).ravel() + 1.0 for name in names)
        ratio = diags(np.log(in_favour / in_favour.sum()) - np.log(against / against.sum()))
        model = LogisticRegression(C=inverse_penalty, max_iter=300)
        model.fit((shortened(counts[rows]) @ ratio).tocsr(), target[rows])
        return float(model.score((shortened(features) @ ratio).tocsr(), expected))

    parts = np.arange(len(texts)) % 4
    rest, quarter = np.flatnonzero(parts), np.flatnonzero(parts == 0)
    best = max((3.0, 30.0, 300.0), key=lambda each: score(rest, each, counts[quarter], target[quarter]))
    return score(np.arange(len(texts)), best, vectorizer.transform(judged), np.array(truth))
