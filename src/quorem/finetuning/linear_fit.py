"""Fitting linear branches of a classifier: logistic regressions, their penalty chosen on training rows.

The regressions are convex, so that they need no learning rate, seed or number of steps. The encoder is then trained
beside scores that have not seen a row's label (`install_branches`).
"""

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from quorem.files import write_bytes
from quorem.models.linear_branch import LinearBranch, class_scores
from quorem.training import processes

logger = logging.getLogger(__name__)

KEPT = "branches.safetensors"
FOLDS = 4
MOST_ITERATIONS = 100  # of L-BFGS; 45,000 film reviews took 28 to 90
LEAST_SCALE, LARGEST_SCALE = -6.0, 3.0  # logarithms


class Branch(Protocol):
    """What a linear branch is fitted on, and how.

    Attributes:
        name: for the log.
        penalties: of the squared weights, over twice the sum of the rows' losses, rising.
    """

    name: str
    penalties: Sequence[float]

    @property
    def module(self) -> LinearBranch:
        """The branch, whose `weight` and `bias` are looked for."""
        ...

    def features(self, rows: Sequence[Sequence[int]]) -> Any:
        """An array or sparse matrix (n, features) of whole documents as ids."""
        ...

    def regressions(
        self, features: Any, classes: np.ndarray, penalty: float, of_rows: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights (features, columns) and biases (columns,), float32; `of_rows` are the rows' weights (n,) if any."""
        ...

    def weight(self, weight: np.ndarray) -> Tensor:
        """The module's weight for those of the features."""
        ...


class Fit(NamedTuple):
    """A fitted branch, and what branches fitted without a row say of it.

    Args:
        weight: float32 (features, columns).
        bias: float32 (columns,).
        columns: float32 (n, columns), of each training row by a fit that has not seen its label.
    """

    weight: np.ndarray
    bias: np.ndarray
    columns: np.ndarray


def install_branches(
    branches: Sequence[Branch],
    rows: Sequence[Sequence[int]],
    labels: Sequence[int],
    *,
    weights: Tensor | None,
    folder: Path,
) -> Tensor:
    """Fit branches, or take what was fitted from `folder`, where the first process leaves it for a resumed run.

    Counts, weights, penalties and scales come from these rows alone. The scores of a row are out of fold: three of four
    parts of the rows are fitted to judge the fourth. Each branch is multiplied by a number: together these make the
    out-of-fold scores the best log-probabilities, for a regression is surer of new rows than it should be.

    Args:
        branches: the numbers of their modules are replaced.
        rows: whole documents as ids.
        labels: their classes; a class may have no rows.
        weights: of the classes, float32 (num_labels,); None for equal ones.
        folder: of this run and no other, for rows, labels and settings are not compared.

    Returns:
        The sum of the branches' scores of the rows, float32 (n, num_labels).
    """
    path = folder / KEPT
    try:
        found = load_file(path)
    except (OSError, SafetensorError):  # not there yet, or damaged
        found = fit_branches(branches, rows, labels, weights=weights)
        if processes.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save({name: value.contiguous() for name, value in found.items()}))
    for number, branch in enumerate(branches):
        branch.module.weight.data.copy_(found[f"{number}.weight"])
        branch.module.bias.data.copy_(found[f"{number}.bias"])
    return found["scores"]


def fit_branches(
    branches: Sequence[Branch], rows: Sequence[Sequence[int]], labels: Sequence[int], *, weights: Tensor | None = None
) -> dict[str, Tensor]:
    """The `weight` and `bias` of each branch by its number, and the `scores` of the rows; no module is changed.

    Args:
        branches: as in `install_branches`.
        rows: the same.
        labels: the same.
        weights: the same.
    """
    classes = np.asarray(labels)
    fits = [_cross_fit(branch, rows, classes, weights) for branch in branches]
    num_labels = branches[0].module.num_labels
    _, scales = _scaled([fit.columns for fit in fits], classes, num_labels, weights)
    scores, found = torch.zeros(len(classes), num_labels), dict[str, Tensor]()
    for number, (branch, fit, scale) in enumerate(zip(branches, fits, scales, strict=True)):
        found[f"{number}.weight"] = branch.weight(fit.weight * scale)
        found[f"{number}.bias"] = torch.from_numpy(fit.bias * scale)
        scores += class_scores(torch.from_numpy(fit.columns * scale), num_labels)
    if len(branches) > 1:
        logger.info("both branches: accuracy out of fold %.4f", _accuracy(scores, classes))
    return found | {"scores": scores}


def logistic(features: Any, own: np.ndarray, penalty: float, of_rows: np.ndarray | None) -> tuple[np.ndarray, float]:
    """Weights (features,) and bias of one logistic regression.

    Args:
        features: (n, features).
        own: bool (n,), both kinds are there.
        penalty: of the squared weights.
        of_rows: the rows' weights.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    regression: Any = LogisticRegression(C=1 / penalty, max_iter=MOST_ITERATIONS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what more steps would change is below what is judged
        regression.fit(features, own, sample_weight=of_rows)
    return regression.coef_[0], float(regression.intercept_[0])


def per_column(
    fit: Callable[[np.ndarray], tuple[np.ndarray, float]], classes: np.ndarray, num_features: int, module: LinearBranch
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (features, columns) and biases (columns,), float32: a regression for each column of a branch.

    Args:
        fit: from rows that are of a column's class, bool (n,), to its weights and bias.
        classes: of the rows.
        num_features: if there are none, or all rows are of one kind, there is a bias alone.
        module: the branch.
    """
    columns = module.bias.numel()
    weight, bias = np.zeros((num_features, columns), np.float32), np.zeros(columns, np.float32)
    for column in range(columns):
        own = classes == (1 if columns == 1 else column)
        if own.all() or not own.any() or not num_features:
            bias[column] = np.log((own.sum() + 0.5) / ((~own).sum() + 0.5))
        else:
            weight[:, column], bias[column] = fit(own)
    return weight, bias


def _cross_fit(branch: Branch, rows: Sequence[Sequence[int]], classes: np.ndarray, weights: Tensor | None) -> Fit:
    """One branch: the penalty with the least loss on one of four parts, fitted on the others, serves all parts."""
    began = time.perf_counter()
    of_rows = None if weights is None else weights.numpy()[classes]
    features, num_labels = branch.features(rows), branch.module.num_labels
    folds = np.empty(len(classes), np.int64)
    folds[np.argsort(classes, kind="stable")] = np.arange(len(classes)) % FOLDS  # each with its share of every class
    columns = np.zeros((len(classes), branch.module.bias.numel()), np.float32)
    choices, penalty = branch.penalties, branch.penalties[0]
    for fold in range(min(FOLDS, len(classes))):
        inside, best = folds == fold, np.inf
        for tried in choices:
            others = None if of_rows is None else of_rows[~inside]
            weight, bias = branch.regressions(features[~inside], classes[~inside], tried, others)
            found = features[inside] @ weight + bias
            loss, _ = _scaled([found], classes[inside], num_labels, weights)
            if loss >= best:  # it has one minimum
                break
            best, penalty, columns[inside] = loss, tried, found
        choices = (penalty,)
    weight, bias = branch.regressions(features, classes, penalty, of_rows)
    logger.info(
        "%s: %s weights, penalty %g, accuracy out of fold %.4f, %.0f s",
        branch.name,
        f"{np.count_nonzero(weight.any(1)):,}",
        penalty,
        _accuracy(class_scores(torch.from_numpy(columns), num_labels), classes),
        time.perf_counter() - began,
    )
    return Fit(weight, bias, columns)


def _accuracy(scores: Tensor, classes: np.ndarray) -> float:
    return float((scores.argmax(1).numpy() == classes).mean())


def _scaled(
    columns: Sequence[np.ndarray], classes: np.ndarray, num_labels: int, weights: Tensor | None
) -> tuple[float, np.ndarray]:
    """The least cross-entropy of the sum of columns (n, columns), each times a number, and these numbers, float32."""
    from scipy.optimize import minimize

    scores = torch.stack([class_scores(torch.from_numpy(each).double(), num_labels) for each in columns])
    truth, weights = torch.from_numpy(classes), None if weights is None else weights.double()

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        scales = torch.tensor(logarithms, requires_grad=True)
        found = F.cross_entropy((scales.exp()[:, None, None] * scores).sum(0), truth, weight=weights)
        found.backward()
        assert scales.grad is not None
        return found.item(), scales.grad.numpy()

    bounds = [(LEAST_SCALE, LARGEST_SCALE)] * len(columns)
    found = minimize(loss, np.zeros(len(columns)), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.fun), np.exp(found.x).astype(np.float32)
