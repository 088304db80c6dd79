"""Heads to test, one of every kind on every table, and what the tests of heads share."""

import torch
from embedding_cases import CASES

from quorem.arrangement.token_order import frequency_order
from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.heads import HEADS
from quorem.heads.condition import CONDITIONS

VOCAB, DIM, DIVISOR, NEVER = 61, 8, 9, (0, 2, 3, 4)
HEAD_OPTIONS = {
    "full": [{}],
    "cosine": [{"scale": 3.0}],
    "two_level": [{"condition": condition} for condition in CONDITIONS],
    "tree": [{}, {"moduli": [3, 5]}],
    "digits": [{"condition": "mlp", "moduli": [4, 4]}, {"condition": "multiply", "moduli": [3, 2, 5]}],
}
HEAD_VARIANTS = [(head, options) for head in HEADS for options in HEAD_OPTIONS.get(head, [{}])]
GRIDS = ((5, False), (17, True))  # own rows, permuted


def allowed(head, kind):
    """The options of a table that a head takes: a full softmax needs a table that factorises."""
    return [each for each in CASES[kind] if head != "full" or each.get("operation", "multiply") == "multiply"]


def chosen():
    """Every head over every kind of table, whose options and grids take turns; those in most use over all options."""
    for place, (head, options) in enumerate(HEAD_VARIANTS):
        for number, kind in enumerate(EMBEDDINGS):
            cases = allowed(head, kind)
            whole = kind == "qr" and (head, options) in (("two_level", HEAD_OPTIONS["two_level"][0]), ("tree", {}))
            for turn, case in enumerate(cases if whole else [cases[place % len(cases)]]):
                yield head, options, kind, case, *GRIDS[(place + number + turn) % 2]


VARIANTS = list(chosen())
FEWER = VARIANTS[::3]
"""Every option of a head, kind of table and grid, not each with each: for what a head does with the probabilities."""


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


def gradients(head, loss):
    """Gradients by name, of the head and its embedding."""
    parameters = {**dict(head.named_parameters()), **{f"E.{k}": v for k, v in head.embedding.named_parameters()}}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }
