"""What tests of linear branches share: documents as ids, and token vectors that say something."""

import torch
from torch import nn

from quorem.tokenization.special import SPECIAL_IDS

CLS, SEP, PAD, UNK = 2, 3, 0, 1
DIM = 10


def document(*ids):
    return [CLS, *ids, SEP]


def vectors(size):
    """Of each token one direction says its remainder of 10, the others are noise."""
    table = nn.Embedding(size, DIM)
    table.weight.data.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    table.weight.data[torch.arange(size), (torch.arange(size) - SPECIAL_IDS) % 10] += 4
    return table
