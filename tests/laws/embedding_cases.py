"""Tables to test: of every kind the options that its code has branches for, small enough for sixty tokens and more.

A new kind needs a line here, and every law of tables, heads, sharing and compilation is about it too.
"""

from quorem.embeddings import EMBEDDINGS
from quorem.embeddings.partition import OPERATIONS

EVERY_OPERATION = [{"operation": operation} for operation in OPERATIONS]
CASES = {
    "dense": [{}],
    "qr": [
        *EVERY_OPERATION,
        {"operation": "multiply", "rank": 3},
        *({"own_rank": 2, **options} for options in EVERY_OPERATION),
    ],
    "mixed_radix": [{"moduli": [4, 4], **options} for options in EVERY_OPERATION],
    "chinese_remainder": [{"moduli": [3, 5, 8], **options} for options in EVERY_OPERATION],
    "attributes": [
        *({"sizes": [3, 5, 8], **options} for options in EVERY_OPERATION),
        {"sizes": [11, 13], "operation": "multiply", "rank": 3},
        {"sizes": [3, 5, 8], "operation": "add", "own_rank": 2},
    ],
    "path": [{"hidden": 0}, {"hidden": 16}],
    "hashing": [{"rows": 12}],
    "hash_embedding": [{"rows": 12}, {"rows": 12, "functions": 3}],
    "low_rank": [{"rank": 3}],
    "pq": [{"parts": 4, "rows": 16}, {"parts": 8, "rows": 5}],
    "memcom": [{"rows": 12}],
}
VARIANTS = [(kind, options) for kind in EMBEDDINGS for options in CASES[kind]]


def name_of(kind, options):
    """For pytest."""
    return "-".join([kind, *map(str, options.values())])
