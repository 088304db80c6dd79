"""Fitting the n-gram branch: logistic regression on n-grams weighted by how unevenly classes have them.

Features are those of NB-SVM (Wang & Manning, Baselines and Bigrams, ACL 2012): whether an n-gram is there, times the
logarithm of how much more often documents of a class have it. The regression is convex, so that it needs no learning
rate, seed or number of steps; the logarithms are folded into the table.
"""

import logging
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from quorem.files import write_bytes
from quorem.models.ngrams import NOTHING, NgramBranch, class_scores, ngram_keys
from quorem.training import processes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

logger = logging.getLogger(__name__)

KEPT = "ngrams.safetensors"
FOLDS = 4
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # long film reviews want the least, short ones about 0.1
SMOOTHING = 1.0  # documents of each class that every n-gram is taken to be in besides those counted
FEWEST_DOCUMENTS = 3  # a row of the table that fewer have counts for nothing, as in the usual NB-SVM baseline
MOST_ITERATIONS = 100  # of L-BFGS; 45,000 film reviews took 28 to 90


class NgramFit(NamedTuple):
    """A fitted table, and what tables fitted without a row say of it.

    Args:
        weight: float32 (rows, columns), as `NgramBranch` has it.
        bias: float32 (columns,).
        scores: float32 (n, num_labels), of each training row by a table that has not seen its label.
    """

    weight: Tensor
    bias: Tensor
    scores: Tensor


def install_ngrams(
    branch: NgramBranch,
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    penalty: float | None,
    weights: Tensor | None,
    folder: Path,
) -> Tensor:
    """Fit the branch, or take what was fitted from `folder`, where the first process leaves it for a resumed run.

    Args:
        branch: its numbers are replaced.
        rows: as in `fit_ngrams`.
        labels: the same.
        penalty: the same.
        weights: the same.
        folder: of this run and no other, for rows, labels and settings are not compared.

    Returns:
        Out-of-fold scores float32 (n, num_labels) of the rows.
    """
    path = folder / KEPT
    try:
        found = NgramFit(**load_file(path))
    except (OSError, SafetensorError):  # not there yet, or damaged
        found = fit_ngrams(branch, rows, labels, penalty=penalty, weights=weights)
        if processes.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save({name: value.contiguous() for name, value in found._asdict().items()}))
    branch.weight.data.copy_(found.weight)
    branch.bias.data.copy_(found.bias)
    return found.scores


def fit_ngrams(
    branch: NgramBranch,
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    penalty: float | None,
    weights: Tensor | None = None,
) -> NgramFit:
    """The table for training rows; the branch itself is not changed.

    Counts, weights, penalty and scale come from these rows alone. The scores of a row are out of fold: three of four
    parts of the rows are fitted to judge the fourth. All are multiplied by the number that makes the out-of-fold scores
    the best log-probabilities, for a regression is surer of new rows than it should be.

    Args:
        branch: says which n-grams, rows of the table and classes.
        rows: whole documents as ids.
        labels: their classes; every class may lack.
        penalty: of the squared weights, over twice the sum of the rows' losses; None for that of PENALTIES with the
            least loss on one of the four parts, fitted on the others.
        weights: of the classes, float32 (num_labels,); None for equal ones.
    """
    began, classes = time.perf_counter(), np.asarray(labels)
    of_rows = None if weights is None else weights.numpy()[classes]
    features = _features(branch, rows)
    folds = np.empty(len(classes), np.int64)
    folds[np.argsort(classes, kind="stable")] = np.arange(len(classes)) % FOLDS  # each with its share of every class
    columns = np.zeros((len(classes), branch.weight.shape[1]), np.float32)
    choices = PENALTIES if penalty is None else (penalty,)
    for fold in range(min(FOLDS, len(classes))):
        inside, best = folds == fold, np.inf
        for tried in choices:
            others = None if of_rows is None else of_rows[~inside]
            weight, bias = _regressions(features[~inside], classes[~inside], branch, tried, others)
            found = features[inside] @ weight + bias
            loss, _ = _scaled(found, classes[inside], branch.num_labels, weights)
            if loss >= best:  # it has one minimum
                break
            best, penalty, columns[inside] = loss, tried, found
        choices = (choices[0] if penalty is None else penalty,)
    weight, bias = _regressions(features, classes, branch, choices[0], of_rows)
    _, scale = _scaled(columns, classes, branch.num_labels, weights)
    scores = class_scores(torch.from_numpy(columns * scale), branch.num_labels)
    logger.info(
        "n-gram branch: %s rows of the table used, penalty %g, accuracy out of fold %.4f, %.0f s",
        f"{np.count_nonzero(weight.any(1)):,}",
        *choices,
        float((scores.argmax(1).numpy() == classes).mean()),
        time.perf_counter() - began,
    )
    return NgramFit(torch.from_numpy(weight * scale), torch.from_numpy(bias * scale), scores)


def _features(branch: NgramBranch, rows: Sequence[Sequence[int]]) -> "csr_matrix":
    """float32 (n, rows of the table): what the branch multiplies its weights by."""
    from scipy.sparse import csr_matrix

    places, ends = [], [0]
    for row in rows:
        keys = ngram_keys(torch.tensor([row]), branch.longest)[0]
        places.append((keys[keys != NOTHING] % branch.rows).to(torch.int32).numpy())
        ends.append(ends[-1] + len(places[-1]))
    counts = np.diff(ends)
    values = np.repeat(np.maximum(counts, 1) ** -0.5, counts).astype(np.float32)
    return csr_matrix((values, np.concatenate(places), ends), shape=(len(rows), branch.rows))


def _regressions(
    features: "csr_matrix", classes: np.ndarray, branch: NgramBranch, penalty: float, of_rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (rows of the table, columns) and biases (columns,), float32, on unweighted features.

    `of_rows` are the rows' weights (n,), None for equal ones.
    """
    from scipy.sparse import diags
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    there = features.copy()
    there.data = np.ones_like(there.data)
    documents = np.asarray(there.sum(0)).ravel()
    used = np.flatnonzero(documents >= FEWEST_DOCUMENTS)
    features, there, documents = features[:, used], there[:, used], documents[used]
    columns = branch.weight.shape[1]
    weight, bias = np.zeros((branch.rows, columns), np.float32), np.zeros(columns, np.float32)
    for column in range(columns):
        own = classes == (1 if columns == 1 else column)
        if own.all() or not own.any() or not len(used):
            bias[column] = np.log((own.sum() + 0.5) / ((~own).sum() + 0.5))
            continue
        inside = np.asarray(there[own].sum(0)).ravel()
        for_it, against = inside + SMOOTHING, documents - inside + SMOOTHING
        ratios = np.log(for_it / for_it.sum() * against.sum() / against).astype(np.float32)
        regression: Any = LogisticRegression(C=1 / penalty, max_iter=MOST_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # what more steps would change is below what is judged
            regression.fit((features @ diags(ratios)).tocsr(), own, sample_weight=of_rows)
        weight[used, column], bias[column] = regression.coef_[0] * ratios, regression.intercept_[0]
    return weight, bias


def _scaled(columns: np.ndarray, classes: np.ndarray, num_labels: int, weights: Tensor | None) -> tuple[float, float]:
    """The least cross-entropy of columns (n, columns) times a number, and that number."""
    from scipy.optimize import minimize_scalar

    scores, truth = class_scores(torch.from_numpy(columns), num_labels), torch.from_numpy(classes)

    def loss(logarithm: float) -> float:
        return float(F.cross_entropy(scores * np.exp(logarithm), truth, weight=weights))

    found = minimize_scalar(loss, bounds=(-6, 3), method="bounded")
    return float(found.fun), float(np.exp(found.x))
