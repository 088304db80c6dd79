"""Token embeddings: ids -> vectors, full tables, complementary partitions, and what these are compared to.

A variant is one file and one line in EMBEDDINGS; tests and documentation iterate over it.
"""

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.attributes import AttributesEmbedding
from quorem.embeddings.base import TokenEmbedding
from quorem.embeddings.chinese_remainder import ChineseRemainderEmbedding
from quorem.embeddings.dense import DenseEmbedding
from quorem.embeddings.hash_embedding import HashEmbedding
from quorem.embeddings.hashing import HashingEmbedding
from quorem.embeddings.low_rank import LowRankEmbedding
from quorem.embeddings.memcom import MemComEmbedding
from quorem.embeddings.mixed_radix import MixedRadixEmbedding
from quorem.embeddings.path import PathEmbedding
from quorem.embeddings.quotient_remainder import QuotientRemainderEmbedding

EMBEDDINGS: dict[str, type[TokenEmbedding]] = {
    "dense": DenseEmbedding,
    "qr": QuotientRemainderEmbedding,
    "mixed_radix": MixedRadixEmbedding,
    "chinese_remainder": ChineseRemainderEmbedding,
    "attributes": AttributesEmbedding,
    "path": PathEmbedding,
    "hashing": HashingEmbedding,
    "hash_embedding": HashEmbedding,
    "low_rank": LowRankEmbedding,
    "memcom": MemComEmbedding,
}

__all__ = ["EMBEDDINGS", "Assignment", "DenseEmbedding", "QuotientRemainderEmbedding", "TokenEmbedding"]
