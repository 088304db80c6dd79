"""Smooth inverse frequency (SIF): a text as the mean of its tokens' vectors, in which rare tokens weigh more.

Arora, Liang and Ma 2017 (A simple but tough-to-beat baseline for sentence embeddings). `SifBranch` is a linear model of
such means beside a classifier's encoder; quorem.finetuning.sif_fit finds its numbers.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from quorem.models.linear_branch import LinearBranch, scores_of
from quorem.tokenization.special import SPECIAL_IDS

SMOOTHING = 1e-3  # a of a / (a + p), Arora et al. 2017


def sif_weights(input_ids: Tensor, vocab_size: int) -> Tensor:
    """What each token weighs, a / (a + p), float32 like input_ids; special tokens weigh nothing.

    How often a token occurs is not stored with a model: p is by Zipf's law, 1 / (rank ln V), for tokenizers number
    tokens by how often they occur.

    Args:
        input_ids: int64, of any shape.
        vocab_size: V.
    """
    rank = (input_ids - SPECIAL_IDS + 1).clamp(min=1).float()
    weight = SMOOTHING / (SMOOTHING + 1 / (rank * math.log(vocab_size)))
    return weight.masked_fill(input_ids < SPECIAL_IDS, 0.0)


def sif_shares(input_ids: Tensor, vocab_size: int) -> Tensor:
    """The weights of each row over their sum, float32 (batch, time); zeros where a row has special tokens alone."""
    weight = sif_weights(input_ids, vocab_size)
    return weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


class SifBranch(LinearBranch):
    """Scores of whole documents by the mean of their tokens' vectors.

    A linear model of a mean is the mean of a score for each token. These are kept instead of the vectors, which go on
    changing when the encoder is trained.

    Args:
        vocab_size: tokens.
        num_labels: scores of a document.
        one_column: as in `LinearBranch`.
    """

    def __init__(self, *, vocab_size: int, num_labels: int, one_column: bool = False) -> None:
        super().__init__(vocab_size, num_labels=num_labels, one_column=one_column)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Scores float32 (batch, num_labels) of input_ids int64 (batch, time)."""
        with torch.autocast(input_ids.device.type, enabled=False):
            shares = sif_shares(input_ids, self.weight.shape[0]).to(self.weight.dtype)
            means = F.embedding_bag(input_ids, self.weight, per_sample_weights=shares, mode="sum")
            return scores_of(means + self.bias, self.num_labels)
