"""Token embeddings: ids -> vectors, with a full table or with complementary partitions.

A variant is one file and one line in EMBEDDINGS; tests and documentation iterate over it.
"""

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.base import TokenEmbedding
from quorem.embeddings.dense import DenseEmbedding
from quorem.embeddings.quotient_remainder import QuotientRemainderEmbedding

EMBEDDINGS: dict[str, type[TokenEmbedding]] = {
    "dense": DenseEmbedding,
    "qr": QuotientRemainderEmbedding,
}

__all__ = ["EMBEDDINGS", "Assignment", "DenseEmbedding", "QuotientRemainderEmbedding", "TokenEmbedding"]
