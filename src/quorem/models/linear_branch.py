"""A linear branch beside an encoder: a row of weights for each thing that a document may hold."""

import torch
from torch import Tensor, nn


class LinearBranch(nn.Module):
    """Weights that are fitted (quorem.finetuning.linear_fit) and no part of gradient descent; zero until then.

    Args:
        rows: of weights.
        num_labels: scores of a document.
        one_column: whether one column stands for the second of two classes against the first.
    """

    def __init__(self, rows: int, *, num_labels: int, one_column: bool = False) -> None:
        super().__init__()
        self.num_labels = num_labels
        columns = 1 if one_column else num_labels
        self.weight = nn.Parameter(torch.zeros(rows, columns), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(columns), requires_grad=False)

    def reset_parameters(self) -> None:
        """All scores are 0 again."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


def scores_of(columns: Tensor, num_labels: int) -> Tensor:
    """Scores (n, num_labels) from a branch's columns: one may stand for the second of two classes against the first."""
    return columns if columns.shape[1] == num_labels else torch.cat([-columns / 2, columns / 2], dim=1)
