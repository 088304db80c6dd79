"""Heads to test, one of every kind on every table, and what the tests of heads share."""

import torch

from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.embeddings.partition import OPERATIONS
from quorem.heads import HEADS
from quorem.heads.condition import CONDITIONS
from quorem.order import frequency_order

VOCAB, DIM, DIVISOR, NEVER = 61, 8, 9, (0, 2, 3, 4)
TABLE_OPTIONS = {
    "dense": [{}],
    "qr": [
        *({"operation": operation} for operation in OPERATIONS),
        {"operation": "multiply", "rank": 2},
        {"operation": "add", "own_rank": 3},
    ],
    "mixed_radix": [{"operation": "multiply", "moduli": [4, 4]}],
    "chinese_remainder": [{"operation": "multiply", "moduli": [7, 9]}],
    "attributes": [{"operation": operation, "sizes": [7, 9]} for operation in OPERATIONS],
    "path": [{"hidden": 0}],
    "hashing": [{"rows": 20}],
    "hash_embedding": [{"rows": 20}],
    "low_rank": [{"rank": 3}],
    "memcom": [{"rows": 20}],
}
HEAD_OPTIONS = {
    "full": [{}],
    "two_level": [{"condition": condition} for condition in CONDITIONS],
    "tree": [{}, {"moduli": [3, 5]}],
    "digits": [{"condition": "mlp", "moduli": [4, 4]}, {"condition": "multiply", "moduli": [3, 2, 5]}],
}
VARIANTS = [
    (head, head_options, table, table_options, own_rows, permuted)
    for head in HEADS
    for head_options in HEAD_OPTIONS.get(head, [{}])
    for table in EMBEDDINGS
    for table_options in TABLE_OPTIONS[table]
    if head != "full" or table_options.get("operation", "multiply") == "multiply"  # the others are refused
    for own_rows, permuted in ((5, False), (17, True))
]


def name_of(variant):
    head, head_options, table, table_options, own_rows, permuted = variant
    parts = [head, *map(str, head_options.values()), table, *map(str, table_options.values()), f"tier{own_rows}"]
    return "-".join([*parts, "permuted"] if permuted else parts)


def make_head(kind, options, table, table_options, own_rows, permuted, vocab=VOCAB, divisor=DIVISOR, never=NEVER):
    """A head whose parameters are all random: no bias is 0, no gate is 1."""
    generator = torch.Generator().manual_seed(11)
    assignment = Assignment(vocab, own_rows=own_rows, divisor=divisor, permuted=permuted)
    if permuted:
        assignment.set_order(frequency_order(torch.randint(0, 50, (vocab,), generator=generator)))
    embedding = EMBEDDINGS[table](assignment, DIM, **table_options)
    head = HEADS[kind](embedding, never=never, **options)
    with torch.no_grad():
        for parameter in [*embedding.parameters(), *head.parameters()]:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
    return head


def hidden_vectors(num_rows, seed=3):
    return torch.randn(num_rows, DIM, generator=torch.Generator().manual_seed(seed))


def seeded_uniforms(num_rows, seed=5):
    return torch.rand(num_rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def all_log_probs(head, hidden):
    """log p, float32 (n, V), with each id checked to come exactly once."""
    pieces = list(head.full_log_prob(hidden))
    ids = torch.cat([ids for ids, _ in pieces])
    assert sorted(ids.tolist()) == list(range(head.embedding.assignment.vocab_size))
    return torch.cat([log_probs for _, log_probs in pieces], dim=-1)[:, torch.argsort(ids)]


def targets_of(head):
    vocab = head.embedding.assignment.vocab_size
    return torch.tensor([token for token in range(vocab) if token not in head.never_ids])


def digits_of(code, moduli):
    """Most significant first."""
    digits = []
    for modulus in moduli:
        digits.append(code % modulus)
        code //= modulus
    return [code, *reversed(digits)]
