"""Fitting linear branches beside an encoder: regressions whose penalty is chosen on training rows.

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

from quorem.files import write_bytes
from quorem.finetuning.targets import Target
from quorem.models.linear_branch import LinearBranch, scores_of
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

    def regressions(self, features: Any, target: Target, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (features, columns) and biases (columns,), float32."""
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
    target: Target,
    *,
    folder: Path,
) -> Tensor:
    """Fit branches, or take what was fitted from `folder`, where the first process leaves it for a resumed run.

    Counts, weights, penalties and scales come from these rows alone. The scores of a row are out of fold: three of four
    parts of the rows are fitted to judge the fourth. Each branch is multiplied by a number: together these make the
    out-of-fold scores those of least loss, for a regression is surer of new rows than it should be.

    Args:
        branches: the numbers of their modules are replaced.
        rows: whole documents as ids.
        target: what the rows are to be told apart by.
        folder: of this run and no other, for rows, target and settings are not compared.

    Returns:
        The sum of the branches' scores of the rows, float32 (n, num_labels).
    """
    path = folder / KEPT
    try:
        found = load_file(path)
    except (OSError, SafetensorError):  # not there yet, or damaged
        found = fit_branches(branches, rows, target)
        if processes.rank() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, save({name: value.contiguous() for name, value in found.items()}))
    for number, branch in enumerate(branches):
        branch.module.weight.data.copy_(found[f"{number}.weight"])
        branch.module.bias.data.copy_(found[f"{number}.bias"])
    return found["scores"]


def fit_branches(branches: Sequence[Branch], rows: Sequence[Sequence[int]], target: Target) -> dict[str, Tensor]:
    """The `weight` and `bias` of each branch by its number, and the `scores` of the rows; no module is changed.

    Args:
        branches: as in `install_branches`.
        rows: the same.
        target: the same.
    """
    fits = [_cross_fit(branch, rows, target) for branch in branches]
    _, scales = _scaled([fit.columns for fit in fits], target)
    scores, found = torch.zeros(len(target), target.num_labels), dict[str, Tensor]()
    for number, (branch, fit, scale) in enumerate(zip(branches, fits, scales, strict=True)):
        found[f"{number}.weight"] = branch.weight(fit.weight * scale)
        found[f"{number}.bias"] = torch.from_numpy(fit.bias * scale)
        scores += scores_of(torch.from_numpy(fit.columns * scale), target.num_labels)
    if len(branches) > 1:
        logger.info("both branches: %s", target.quality(scores))
    return found | {"scores": scores}


def regression(
    features: Any, values: np.ndarray, penalty: float, row_weights: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Weights (features,) and bias of one regression, by the least sum of the rows' losses and penalty / 2 w'w.

    Args:
        features: (n, features).
        values: bool (n,), both kinds are there, for a logistic one; float64 for half the squared error.
        penalty: of the squared weights.
        row_weights: of the rows' losses.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression, Ridge

    if values.dtype == bool:
        fitted: Any = LogisticRegression(C=1 / penalty, max_iter=MOST_ITERATIONS)
    else:
        fitted = Ridge(alpha=penalty)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what more steps would change is below what is judged
        fitted.fit(features, values, sample_weight=row_weights)
    return np.ravel(fitted.coef_), float(np.ravel(fitted.intercept_)[0])


def per_column(
    fit: Callable[[np.ndarray], tuple[np.ndarray, float]], target: Target, num_features: int, module: LinearBranch
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (features, columns) and biases (columns,), float32: a regression for each column of a branch.

    Args:
        fit: from what a column is fitted to (n,) to its weights and bias.
        target: of the rows.
        num_features: if there are none, or all rows are alike, there is a bias alone.
        module: the branch.
    """
    columns = module.bias.numel()
    weight, bias = np.zeros((num_features, columns), np.float32), np.zeros(columns, np.float32)
    for column in range(columns):
        values = target.column(column, of=columns)
        if num_features and len(np.unique(values)) > 1:
            weight[:, column], bias[column] = fit(values)
        elif values.dtype == bool:
            bias[column] = np.log((values.sum() + 0.5) / ((~values).sum() + 0.5))
        else:
            bias[column] = values.mean() if len(values) else 0.0
    return weight, bias


def folds_of(target: Target) -> np.ndarray:
    """The part of each row, int64 (n,) below FOLDS; each has its share of everything."""
    folds = np.empty(len(target), np.int64)
    folds[np.argsort(target.key, kind="stable")] = np.arange(len(target)) % FOLDS
    return folds


def _cross_fit(branch: Branch, rows: Sequence[Sequence[int]], target: Target) -> Fit:
    """One branch: the penalty with the least loss on one of four parts, fitted on the others, serves all parts."""
    began = time.perf_counter()
    features, folds = branch.features(rows), folds_of(target)
    columns = np.zeros((len(target), branch.module.bias.numel()), np.float32)
    choices, penalty = branch.penalties, branch.penalties[0]
    for fold in range(min(FOLDS, len(target))):
        inside, best = folds == fold, np.inf
        for tried in choices:
            weight, bias = branch.regressions(features[~inside], target.take(~inside), tried)
            found = features[inside] @ weight + bias
            loss, _ = _scaled([found], target.take(inside))
            if loss >= best:  # it has one minimum
                break
            best, penalty, columns[inside] = loss, tried, found
        choices = (penalty,)
    weight, bias = branch.regressions(features, target, penalty)
    logger.info(
        "%s: %s weights, penalty %g, %s, %.0f s",
        branch.name,
        f"{np.count_nonzero(weight.any(1)):,}",
        penalty,
        target.quality(scores_of(torch.from_numpy(columns), target.num_labels)),
        time.perf_counter() - began,
    )
    return Fit(weight, bias, columns)


def _scaled(columns: Sequence[np.ndarray], target: Target) -> tuple[float, np.ndarray]:
    """The least loss of the sum of columns (n, columns), each times a number, and these numbers, float32."""
    from scipy.optimize import minimize

    scores = torch.stack([scores_of(torch.from_numpy(each).double(), target.num_labels) for each in columns])

    def loss(logarithms: np.ndarray) -> tuple[float, np.ndarray]:
        scales = torch.tensor(logarithms, requires_grad=True)
        found = target.loss((scales.exp()[:, None, None] * scores).sum(0))
        found.backward()
        assert scales.grad is not None
        return found.item(), scales.grad.numpy()

    bounds = [(LEAST_SCALE, LARGEST_SCALE)] * len(columns)
    found = minimize(loss, np.zeros(len(columns)), jac=True, method="L-BFGS-B", bounds=bounds)
    return float(found.fun), np.exp(found.x).astype(np.float32)
