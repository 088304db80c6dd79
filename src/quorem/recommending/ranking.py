"""How well items are ranked: hit rate, NDCG and MRR of the one target among all items, coverage and popularity.

The target's place is 1 + the number of items with a higher score + half the number of others with the same: the middle
of a tie. Counting methods have many ties, and the first place would double their figures (and the last halve them).
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from quorem.data.sessions import Sessions
from quorem.tokenization.special import SPECIAL_IDS

CUTOFFS = (1, 5, 10, 20)
SCORES_AT_ONCE = 2**24  # numbers of (rows, V) in memory at once
ROWS_AT_ONCE = 512

Scorer = Callable[[Sequence[Sequence[int]]], Tensor]
"""Histories of ids -> scores float32 (n, V), higher for likelier items."""


def places(scores: Tensor, targets: Tensor) -> Tensor:
    """The place of each target, float64 (n,), from 1 on, in the middle of ties; infinite where it cannot be had.

    Args:
        scores: float32 (n, V); -inf for what is never recommended, NaN for what a diverged model says.
        targets: int64 (n,); below 0 for one that is unknown.
    """
    own = scores.gather(1, targets.clamp(min=0).unsqueeze(1))
    above = (scores > own).sum(1)
    equal = ((scores == own).sum(1) - 1).clamp(min=0)
    found = 1 + above.double() + equal.double() / 2
    none = (targets < 0) | (own.squeeze(1) == -torch.inf) | own.squeeze(1).isnan()
    return found.masked_fill(none, torch.inf)


class Ranked:
    """Sums of measures over rows; bounded memory whatever their number.

    Args:
        counts: int64 (V,), how often each item stands in rows that may be counted.
    """

    def __init__(self, counts: np.ndarray) -> None:
        self.counts = torch.from_numpy(np.asarray(counts, np.float64))
        self.rows = self.recommended = 0
        self.popularity = 0.0
        self.sums = {f"{name}@{k}": 0.0 for k in CUTOFFS for name in ("hr", "ndcg", "mrr")}
        self.ever = torch.zeros(len(self.counts), dtype=torch.bool)

    def update(self, scores: Tensor, targets: Tensor, *, floor: float = -torch.inf) -> None:
        """Count some rows.

        Args:
            scores: as in `places`.
            targets: see there.
            floor: a score that says nothing, such as 0 of one who counts: what has no more is not recommended.
        """
        found = places(scores, targets)
        self.rows += len(found)
        for k in CUTOFFS:
            hit = found[found <= k]
            self.sums[f"hr@{k}"] += len(hit)
            self.sums[f"ndcg@{k}"] += float((1 / torch.log2(1 + hit)).sum())
            self.sums[f"mrr@{k}"] += float((1 / hit).sum())
        best = scores.topk(min(CUTOFFS[-1], scores.shape[1]), dim=1)
        items = best.indices[best.values > floor]
        self.ever[items] = True
        self.recommended += len(items)
        self.popularity += float(self.counts[items].sum())

    def compute(self) -> dict[str, float]:
        """The means, by name.

        coverage@20 is the share of the items with a count that are ever among the first 20, popularity@20 the mean
        count of the items there.
        """
        found = {name: value / max(1, self.rows) for name, value in self.sums.items()}
        known = self.counts[SPECIAL_IDS:] > 0
        covered = int((self.ever[SPECIAL_IDS:] & known).sum())
        found[f"coverage@{CUTOFFS[-1]}"] = covered / max(1, int(known.sum()))
        found[f"popularity@{CUTOFFS[-1]}"] = self.popularity / max(1, self.recommended)
        return found


def judge(
    scorer: Scorer,
    cases: Sessions,
    counts: np.ndarray,
    *,
    exclude_seen: bool,
    floor: float = -torch.inf,
    tell: Callable[[int], None] = lambda rows: None,
) -> dict[str, float]:
    """Measures of a scorer on rows whose last item is the target, among all items.

    Args:
        scorer: what is judged.
        cases: each of two items or more.
        counts: as in `Ranked`.
        exclude_seen: whether items of a history are left out of its ranking.
        floor: as in `Ranked.update`.
        tell: called with the number of rows done, now and then.
    """
    ranked = Ranked(counts)
    size = max(1, min(ROWS_AT_ONCE, SCORES_AT_ONCE // len(counts)))
    for start in range(0, len(cases), size):
        histories, targets = cases.cases(start, start + size)
        scores = scorer(histories)
        leave_out(scores, histories if exclude_seen else ())
        ranked.update(scores, torch.tensor(targets), floor=floor)
        tell(ranked.rows)
    return ranked.compute()


def leave_out(scores: Tensor, histories: Sequence[Sequence[int]]) -> None:
    """Put -inf in place of special tokens, and of each history's items, in scores (n, V)."""
    scores[:, :SPECIAL_IDS] = -torch.inf
    if histories:
        rows = np.repeat(np.arange(len(histories)), [len(history) for history in histories])
        scores[torch.from_numpy(rows), torch.tensor([item for history in histories for item in history])] = -torch.inf
