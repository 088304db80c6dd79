"""Two-level softmax on the embedding's own partition: p(class | h) p(remainder | h, bucket).

The head of two digits, the quotient and the remainder of the embedding's grid, so that time and memory grow with
sqrt(V). With the quotient-remainder table of operation multiply or add, the remainder's rows are the input's.
"""

from collections.abc import Iterable

from quorem.embeddings import TokenEmbedding
from quorem.heads.digits import DigitsHead


class TwoLevelHead(DigitsHead):
    """A class of its own for every tier token and every bucket; then the remainder inside the bucket.

    Args:
        embedding: its grid's divisor says how many remainders there are.
        never: ids that are never targets; each must have a row of its own.
        condition: how a bucket enters, a kind of Condition.
    """

    def __init__(self, embedding: TokenEmbedding, *, never: Iterable[int] = (), condition: str = "mlp") -> None:
        super().__init__(embedding, never=never, condition=condition, moduli=[embedding.assignment.divisor])
