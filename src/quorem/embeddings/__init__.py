"""Token embeddings: ids -> vectors, full tables, complementary partitions, and what these are compared to.

A variant is one file and one line in EMBEDDINGS; tests and documentation iterate over it.
"""

from collections.abc import Mapping
from typing import Any

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
from quorem.embeddings.product_quantization import ProductQuantizationEmbedding
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
    "pq": ProductQuantizationEmbedding,
    "memcom": MemComEmbedding,
}


def build_table(entry: Mapping[str, Any], vocab_size: int, dim: int) -> TokenEmbedding:
    """The table that a config's entry describes: its kind, the grid of its ids, and the kind's options.

    Raises:
        KeyError: for a kind that is not registered.
        ValueError: for options that do not fit.
    """
    options = dict(entry)
    kind = EMBEDDINGS[options.pop("kind")]
    grid = {key: options.pop(key) for key in ("own_rows", "divisor", "permuted") if key in options}
    return kind(Assignment(vocab_size, **grid), dim, **options)


__all__ = ["EMBEDDINGS", "Assignment", "DenseEmbedding", "QuotientRemainderEmbedding", "TokenEmbedding", "build_table"]
