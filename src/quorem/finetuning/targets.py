"""What linear branches are fitted to: classes, sets of labels, or numbers, each with the loss that judges scores."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Target(Protocol):
    """What rows are to be told apart by.

    Attributes:
        num_labels: scores of a row.
    """

    num_labels: int

    def __len__(self) -> int:
        """Rows."""
        ...

    def take(self, chosen: np.ndarray) -> "Target":
        """Some rows, by bool (n,)."""
        ...

    def column(self, number: int, *, of: int) -> np.ndarray:
        """What one of a branch's `of` columns is fitted to: bool (n,) for a logistic regression, else float64."""
        ...

    @property
    def row_weights(self) -> np.ndarray | None:
        """Weights of the rows (n,); None for equal ones."""
        ...

    @property
    def key(self) -> np.ndarray:
        """Numbers (n,) by which rows are dealt out to folds, so that each fold has its share of everything."""
        ...

    def loss(self, scores: Tensor) -> Tensor:
        """The mean loss of scores float64 (n, num_labels)."""
        ...

    def quality(self, scores: Tensor) -> str:
        """How good scores are, for the log."""
        ...


class Classes:
    """A class for each row.

    Args:
        classes: their numbers; a class may have no rows.
        num_labels: how many classes there are.
        weights: of the classes, float32 (num_labels,); None for equal ones.
    """

    def __init__(self, classes: Sequence[int] | np.ndarray, num_labels: int, weights: Tensor | None = None) -> None:
        self.classes, self.num_labels, self.weights = np.asarray(classes), num_labels, weights

    def __len__(self) -> int:
        return len(self.classes)

    def take(self, chosen: np.ndarray) -> "Classes":
        """As in `Target`."""
        return Classes(self.classes[chosen], self.num_labels, self.weights)

    def column(self, number: int, *, of: int) -> np.ndarray:
        """Which rows are of the class; one column for two classes stands for the second."""
        return self.classes == (1 if of == 1 else number)

    @property
    def row_weights(self) -> np.ndarray | None:
        """Those of the rows' classes."""
        return None if self.weights is None else self.weights.numpy()[self.classes]

    @property
    def key(self) -> np.ndarray:
        """The class."""
        return self.classes

    def loss(self, scores: Tensor) -> Tensor:
        """Cross-entropy."""
        weights = None if self.weights is None else self.weights.double()
        return F.cross_entropy(scores, torch.from_numpy(self.classes), weight=weights)

    def quality(self, scores: Tensor) -> str:
        """Accuracy."""
        return f"accuracy out of fold {float((scores.argmax(1).numpy() == self.classes).mean()):.4f}"


class LabelSets:
    """Any number of labels for each row.

    Args:
        indicators: bool (n, num_labels), whether a row has a label.
    """

    def __init__(self, indicators: np.ndarray) -> None:
        self.indicators, self.num_labels = indicators, indicators.shape[1]

    def __len__(self) -> int:
        return len(self.indicators)

    def take(self, chosen: np.ndarray) -> "LabelSets":
        """As in `Target`."""
        return LabelSets(self.indicators[chosen])

    def column(self, number: int, *, of: int) -> np.ndarray:
        """Which rows have the label."""
        return self.indicators[:, number]

    @property
    def row_weights(self) -> None:
        """Equal ones."""

    @property
    def key(self) -> np.ndarray:
        """A row's rarest label; after all labels where it has none."""
        rare = np.argsort(np.argsort(self.indicators.sum(0), kind="stable"))
        return np.where(self.indicators, rare, self.num_labels).min(1, initial=self.num_labels)

    def loss(self, scores: Tensor) -> Tensor:
        """Binary cross-entropy, over all labels."""
        return F.binary_cross_entropy_with_logits(scores, torch.from_numpy(self.indicators).to(scores.dtype))

    def quality(self, scores: Tensor) -> str:
        """F1 of all decisions together."""
        found = scores.numpy() > 0
        both, either = (found & self.indicators).sum(), found.sum() + self.indicators.sum()
        return f"micro F1 out of fold {2 * both / max(1, either):.4f}"


class Numbers:
    """A number for each row.

    Args:
        numbers: standardised, float64 (n,).
    """

    num_labels = 1

    def __init__(self, numbers: np.ndarray) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, chosen: np.ndarray) -> "Numbers":
        """As in `Target`."""
        return Numbers(self.numbers[chosen])

    def column(self, number: int, *, of: int) -> np.ndarray:
        """The numbers."""
        return self.numbers

    @property
    def row_weights(self) -> None:
        """Equal ones."""

    @property
    def key(self) -> np.ndarray:
        """The number."""
        return self.numbers

    def loss(self, scores: Tensor) -> Tensor:
        """Half the squared error."""
        return F.mse_loss(scores.squeeze(1), torch.from_numpy(self.numbers)) / 2

    def quality(self, scores: Tensor) -> str:
        """Pearson's correlation, 0 where it is undefined."""
        found = scores.squeeze(1).double().numpy()
        spread = found.std() * self.numbers.std()
        shared = ((found - found.mean()) * (self.numbers - self.numbers.mean())).mean()
        return f"correlation out of fold {shared / spread if spread else 0.0:.4f}"
