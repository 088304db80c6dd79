"""torch.compile changes nothing: it captures every table whole, and heads in parts, as their sizes are data."""

import pytest
import torch
from embedding_cases import CASES

from quorem.embeddings import EMBEDDINGS, Assignment
from quorem.heads import HEADS

VOCAB, DIM = 61, 8
# Where a graph breaks (sizes that are data), the capture itself looks at .grad of what is no leaf; and it makes an
# object of torch's own Function.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*autograd.function.Function.* should not be instantiated:DeprecationWarning"),
]
HEAD_OPTIONS = {"digits": {"moduli": [4, 4]}}


@pytest.fixture(autouse=True)
def fresh_cache():
    yield
    torch.compiler.reset()


def make_embedding(kind):
    torch.manual_seed(0)
    return EMBEDDINGS[kind](Assignment(VOCAB, own_rows=9, divisor=9, permuted=True), DIM, **CASES[kind][0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(EMBEDDINGS))
def test_a_compiled_table_gives_the_same_vectors_and_gradients(kind):
    embedding, ids = make_embedding(kind), torch.arange(VOCAB).view(1, -1)
    compiled = torch.compile(embedding, backend="eager", fullgraph=kind != "path")  # whose blocks' sizes are data
    found = []
    for module in (embedding, compiled):
        vectors = module(ids)
        found.append((vectors, torch.autograd.grad(vectors.square().sum(), list(embedding.parameters()))))
    torch.testing.assert_close(*found)
    for wrong in (-1, VOCAB):
        with pytest.raises((IndexError, RuntimeError), match="is not in the vocabulary"):
            compiled(torch.full((1, VOCAB), wrong))


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(HEADS))
def test_a_compiled_head_gives_the_same_likelihoods_and_draws(kind):
    head = HEADS[kind](make_embedding("qr"), never=(0, 2, 3, 4), **HEAD_OPTIONS.get(kind, {}))
    targets = torch.arange(5, VOCAB)
    hidden = torch.randn(len(targets), DIM)
    uniforms = torch.rand(len(targets), dtype=torch.float64)
    for function, arguments in ((head.nll, (hidden, targets)), (head.sample, (hidden, uniforms, targets))):
        torch.testing.assert_close(torch.compile(function, backend="eager")(*arguments), function(*arguments))
