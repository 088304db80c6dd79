"""Fitting the n-gram branch: a regression on n-grams weighted by how unevenly classes have them.

Features are those of NB-SVM (Wang & Manning, Baselines and Bigrams, ACL 2012): whether an n-gram is there, times the
logarithm of how much more often documents of a class have it; where numbers are learned, that of how few documents
have it. The logarithms are folded into the table.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from quorem.finetuning.linear_fit import per_column, regression
from quorem.finetuning.targets import Target
from quorem.models.ngrams import NOTHING, NgramBranch, ngram_keys

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # long film reviews want the least, short ones about 0.1
NUMBER_PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
"""Where numbers are learned, whose features are larger."""
SMOOTHING = 1.0  # documents of each class that every n-gram is taken to be in besides those counted
FEWEST_DOCUMENTS = 3  # a row of the table that fewer have counts for nothing, as in the usual NB-SVM baseline


class NgramFeatures:
    """What an n-gram branch is fitted on (`quorem.finetuning.linear_fit.Branch`).

    Args:
        module: says which n-grams, rows of the table and classes.
        penalty: the only one to try; None for the usual ones.
    """

    name = "n-gram branch"

    def __init__(self, module: NgramBranch, *, penalty: float | None) -> None:
        self.module = module
        usual = PENALTIES if module.num_labels > 1 else NUMBER_PENALTIES
        self.penalties: Sequence[float] = usual if penalty is None else (penalty,)

    def features(self, rows: Sequence[Sequence[int]]) -> "csr_matrix":
        """float32 (n, rows of the table): what the branch multiplies its weights by."""
        from scipy.sparse import csr_matrix

        places, ends = [], [0]
        for row in rows:
            keys = ngram_keys(torch.tensor([row]), self.module.longest)[0]
            places.append((keys[keys != NOTHING] % self.module.rows).to(torch.int32).numpy())
            ends.append(ends[-1] + len(places[-1]))
        counts = np.diff(ends)
        values = np.repeat(np.maximum(counts, 1) ** -0.5, counts).astype(np.float32)
        return csr_matrix((values, np.concatenate(places), ends), shape=(len(rows), self.module.rows))

    def regressions(self, features: "csr_matrix", target: Target, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (rows of the table, columns) and biases (columns,), float32, on unweighted features."""
        from scipy.sparse import diags

        there = features.copy()
        there.data = np.ones_like(there.data)
        documents = np.asarray(there.sum(0)).ravel()
        used = np.flatnonzero(documents >= FEWEST_DOCUMENTS)
        features, there, documents = features[:, used], there[:, used], documents[used]

        def fit(values: np.ndarray) -> tuple[np.ndarray, float]:
            if values.dtype == bool:
                inside = np.asarray(there[values].sum(0)).ravel()
                for_it, against = inside + SMOOTHING, documents - inside + SMOOTHING
                factors = np.log(for_it / for_it.sum() * against.sum() / against).astype(np.float32)
            else:
                factors = np.log((len(values) + SMOOTHING) / documents).astype(np.float32)
            weight, bias = regression((features @ diags(factors)).tocsr(), values, penalty, target.row_weights)
            return weight * factors, bias

        weight = np.zeros((self.module.rows, self.module.bias.numel()), np.float32)
        weight[used], bias = per_column(fit, target, len(used), self.module)
        return weight, bias

    def weight(self, weight: np.ndarray) -> Tensor:
        """The table."""
        return torch.from_numpy(weight)
