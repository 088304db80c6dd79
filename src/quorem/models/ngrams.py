"""The n-gram branch of a classifier: a linear model of a document's n-grams, beside the encoder.

N-grams are hashed into the rows of a table, as in fastText (Joulin et al., arXiv:1607.01759, sec. 2.2).
quorem.finetuning.ngram_fit finds the table's numbers.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from quorem.embeddings.hashing import hashed
from quorem.models.linear_branch import LinearBranch, scores_of
from quorem.tokenization.special import SPECIAL_IDS

KEYS = 2**61  # hashes of n-grams are below it, so that an id may be added to one
NOTHING = KEYS  # in the place of an n-gram that does not count


def ngram_keys(input_ids: Tensor, longest: int) -> Tensor:
    """The distinct n-grams of each row as numbers below KEYS, then NOTHING: int64 (batch, places), rising.

    No n-gram holds a special token, so that padding, [UNK] and the ends of a text part n-grams.

    Args:
        input_ids: int64 (batch, time).
        longest: N of the 1- to N-grams.
    """
    known, found = input_ids >= SPECIAL_IDS, []
    keys, valid = hashed(input_ids, KEYS), known
    for n in range(1, min(longest, input_ids.shape[1]) + 1):
        if n > 1:  # the n-gram of one token less, and the token after it
            keys, valid = hashed(keys[:, :-1] + input_ids[:, n - 1 :], KEYS), valid[:, :-1] & known[:, n - 1 :]
        found.append(keys.masked_fill(~valid, NOTHING))
    rising = torch.cat(found, 1).sort(1).values
    again = F.pad(rising[:, 1:] == rising[:, :-1], (1, 0))
    return rising.masked_fill(again, NOTHING).sort(1).values


class NgramBranch(LinearBranch):
    """Scores of whole documents by the n-grams in them.

    Args:
        longest: N of the 1- to N-grams.
        rows: of the table.
        num_labels: scores of a document.
        one_column: as in `LinearBranch`.
    """

    def __init__(self, *, longest: int, rows: int, num_labels: int, one_column: bool = False) -> None:
        if longest < 1 or rows < 1:
            raise ValueError(f"longest={longest}, rows={rows}: 1 or more of both needed")
        super().__init__(rows, num_labels=num_labels, one_column=one_column)
        self.longest, self.rows = longest, rows

    def forward(self, input_ids: Tensor) -> Tensor:
        """Scores float32 (batch, num_labels) of input_ids int64 (batch, time): each n-gram counts once.

        The sum over n-grams is divided by the root of their number, so that long documents are not surer by length.
        """
        keys = ngram_keys(input_ids, self.longest)
        there = (keys != NOTHING).to(self.weight.dtype)
        shares = there * there.sum(1, keepdim=True).clamp(min=1).rsqrt()
        with torch.autocast(input_ids.device.type, enabled=False):
            sums = F.embedding_bag(keys % self.rows, self.weight, per_sample_weights=shares, mode="sum")
            return scores_of(sums + self.bias, self.num_labels)
