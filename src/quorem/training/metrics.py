"""Scores of replaced-token detection."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class BinaryMetrics:
    """Running scores of the discriminator, kept as one histogram of logits for each class.

    `update` never waits for the device; `compute` does. The bins are even in the arctangent of the logit and 0 is a
    bin edge, so the threshold is exact; only the AUC is rounded: two logits in one bin count as tied. A bin is .0015
    logits wide at 0, .03 at +-4, .1 at +-8.

    Attributes:
        counts: int64 (2, 2048); row 0 true originals, row 1 replaced tokens. Sum it over ranks to merge them.
    """

    num_bins = 2048

    def __init__(self) -> None:
        self.counts = torch.zeros(2, self.num_bins, dtype=torch.int64)

    def reset(self) -> None:
        """Forget everything seen so far."""
        self.counts.zero_()

    @torch.no_grad()
    def update(self, logits: Tensor, labels: Tensor, mask: Tensor) -> None:
        """Add one batch.

        Args:
            logits: float, any shape; above 0 predicts "replaced".
            labels: bool, the same shape; True where the token was replaced.
            mask: bool, the same shape; True where the token counts (no padding). A logit that is not a number never
                does.
        """
        self.counts = self.counts.to(logits.device)  # follows the model: a copy at the first batch only
        scores = logits.detach().float().flatten()
        counted = mask.flatten() & ~scores.isnan()
        half = self.num_bins // 2
        distance = (scores.nan_to_num(nan=0.0).atan().abs() * (2 / math.pi * half)).long().clamp(0, half - 1)
        bins = torch.where(scores > 0, half + distance, half - 1 - distance)
        # Masked tokens are added with weight 0: selecting the others would make the host wait for their number.
        index = labels.flatten().bool() * self.num_bins + bins
        self.counts.view(-1).scatter_add_(0, index, counted.to(torch.int64))

    def compute(self) -> dict[str, float | None]:
        """The scores of all batches since the last reset; None where a score is undefined.

        Returns:
            `accuracy`, `precision` and `recall` of "replaced" at logit 0, `auc` (None unless both classes were seen),
            `positive_share` and `base_rate_entropy`, the entropy in nats of that share: the loss of a discriminator
            that knows nothing but the share.
        """
        negative, positive = self.counts.cpu().numpy().astype(np.float64)
        half = self.num_bins // 2
        num_negative, num_positive = negative.sum(), positive.sum()
        true_positive, false_positive = positive[half:].sum(), negative[half:].sum()
        true_negative = num_negative - false_positive
        num_tokens = num_negative + num_positive
        negatives_below = np.cumsum(negative) - negative / 2  # those in the same bin are tied: half each
        return {
            "accuracy": _divide(true_positive + true_negative, num_tokens),
            "precision": _divide(true_positive, true_positive + false_positive),
            "recall": _divide(true_positive, num_positive),
            "auc": _divide(positive @ negatives_below, num_negative * num_positive),
            "positive_share": _divide(num_positive, num_tokens),
            "base_rate_entropy": entropy([num_negative, num_positive]) if num_tokens else None,
        }


class RunningMean:
    """A mean over all that was added, kept where that is, so that nobody waits for it. What is not finite is left out.

    Attributes:
        sums: float64 (2,), the sum and how many things it is of. Sum it over ranks to merge them.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64)

    def reset(self) -> None:
        """Forget everything added so far."""
        self.sums.zero_()

    @torch.no_grad()
    def update(self, total: Tensor, number: int) -> None:
        """Add a sum, floating (), of so many things."""
        self.sums = self.sums.to(total.device)  # follows the model: a copy at the first batch only
        total = total.detach().double()
        finite = total.isfinite()
        self.sums += torch.stack([total.masked_fill(~finite, 0.0), finite * float(number)])

    def compute(self) -> float:
        """The mean; 0 of nothing."""
        total, number = self.sums.tolist()
        return total / max(1.0, number)


def _divide(numerator: float, denominator: float) -> float | None:
    return float(numerator / denominator) if denominator else None


def entropy(counts: Sequence[float] | np.ndarray | Tensor) -> float:
    """Entropy in nats of a histogram, for instance of a unigram distribution; 0 when it is empty.

    Args:
        counts: non-negative, any shape, any number type, zeros allowed; summed in float64.
    """
    values = counts.detach().cpu().numpy() if isinstance(counts, Tensor) else counts
    filled = np.asarray(values, dtype=np.float64)
    filled = filled[filled > 0]
    total = filled.sum()
    return float((filled / total * np.log(total / filled)).sum())
