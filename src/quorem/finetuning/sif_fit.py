"""Fitting the SIF branch: a regression on the weighted means of pre-trained token vectors."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from quorem.finetuning.linear_fit import per_column, regression
from quorem.finetuning.targets import Target
from quorem.models.sif import SifBranch, sif_shares

PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3)  # a thousand film reviews want about 30
IDS_AT_ONCE = 65_536
ROUNDING = 1e-5  # of sums in float32, relative


class SifFeatures:
    """What a SIF branch is fitted on (`quorem.finetuning.linear_fit.Branch`): a document's mean vector.

    Means are centred and scaled by one number, so that penalties mean the same for every table. Numbers that vary
    little stay small: the last directions of vectors by co-occurrence say least, and a penalty keeps them low.

    Args:
        module: the branch, whose numbers are looked for.
        embedding: ids int64 -> vectors float (..., D), as they are now.
    """

    name = "SIF branch"

    def __init__(self, module: SifBranch, embedding: nn.Module) -> None:
        self.module, self.embedding = module, embedding
        self.penalties: Sequence[float] = PENALTIES

    @torch.no_grad()
    def features(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """The means float32 (n, D); zeros where a row has no token that is known."""
        found = []
        for row in rows:
            ids = torch.tensor([row])
            shares = sif_shares(ids, self.module.weight.shape[0])
            found.append((shares.unsqueeze(-1) * self._vectors(ids)).sum(1))
        return torch.cat(found).numpy()

    def regressions(self, features: np.ndarray, target: Target, penalty: float) -> tuple[np.ndarray, np.ndarray]:
        """Weights (D, columns) and biases (columns,), float32, on features as they are."""

        def fit(values: np.ndarray) -> tuple[np.ndarray, float]:
            mean, scale = features.mean(0), float(features.std(0).mean())
            if scale <= ROUNDING * float(np.abs(features).max()):  # all rows read alike
                scale = 1.0
            weight, bias = regression((features - mean) / scale, values, penalty, target.row_weights)
            return weight / scale, bias - float(weight @ mean) / scale

        return per_column(fit, target, features.shape[1], self.module)

    @torch.no_grad()
    def weight(self, weight: np.ndarray) -> Tensor:
        """The score of each token float32 (V, columns)."""
        return torch.cat([
            self._vectors(ids) @ torch.from_numpy(weight)
            for ids in torch.arange(self.module.weight.shape[0]).split(IDS_AT_ONCE)
        ])  # fmt: skip

    def _vectors(self, ids: Tensor) -> Tensor:
        """Those of tokens float32 (..., D), on the CPU."""
        found: Tensor = self.embedding(ids.to(next(self.embedding.parameters()).device))
        return found.float().cpu()
