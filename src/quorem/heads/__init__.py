"""Generator heads: hidden vectors -> normalised log-probabilities over the vocabulary, and exact samples.

A variant is one file and one line in HEADS; tests and documentation iterate over it.
"""

from quorem.heads.base import GeneratorHead
from quorem.heads.cosine import CosineHead
from quorem.heads.digits import DigitsHead
from quorem.heads.full import FullHead
from quorem.heads.tree import TreeHead
from quorem.heads.two_level import TwoLevelHead

HEADS: dict[str, type[GeneratorHead]] = {
    "full": FullHead,
    "cosine": CosineHead,
    "two_level": TwoLevelHead,
    "digits": DigitsHead,
    "tree": TreeHead,
}

__all__ = ["HEADS", "CosineHead", "DigitsHead", "FullHead", "GeneratorHead", "TreeHead", "TwoLevelHead"]
