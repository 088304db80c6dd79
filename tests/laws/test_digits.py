import math

import pytest
import torch
from head_cases import DIM, DIVISOR, NEVER, VOCAB, all_log_probs, digits_of, hidden_vectors, make_head, seeded_uniforms
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.embeddings import EMBEDDINGS, Assignment, DenseEmbedding, QuotientRemainderEmbedding
from quorem.embeddings.mixed_radix import even_moduli
from quorem.heads import DigitsHead, TwoLevelHead
from quorem.heads.condition import CONDITIONS


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("tail", [1, 2, 9, 10, 11, 17, 18, 19])
@pytest.mark.parametrize(("kind", "options"), [("two_level", {}), ("digits", {"moduli": [3, 3]})])
def test_an_incomplete_bucket_leaks_nothing(kind, options, condition, tail):
    vocab = 5 + tail
    head = make_head(
        kind, {"condition": condition, **options}, "qr", {"operation": "multiply"}, 5, False, vocab=vocab, divisor=9
    )
    with torch.no_grad():
        head.bias[-1] += 10  # nearly all mass in the last bucket
        for level in range(1, len(head.sizes)):
            getattr(head, f"bias_{level}")[-1] += 10  # and on the digits it may lack
    hidden = hidden_vectors(2000)
    probabilities = all_log_probs(head, hidden).exp()
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(2000), atol=1e-5, rtol=0)
    drawn = head.sample(hidden, seeded_uniforms(2000))
    assert drawn.max() < vocab
    assert head.topk(hidden, vocab)[1].max() < vocab


def test_start_at_unigram_is_exact_where_buckets_do_not_mix():
    """With the product condition and complete buckets of equal profile the whole distribution is met."""
    head = make_head("two_level", {"condition": "multiply"}, "qr", {"operation": "multiply"}, 5, False, vocab=5 + 36)
    counts = torch.cat([torch.full((5,), 7), torch.outer(torch.tensor([1, 5, 2, 9]), torch.arange(1, 10)).flatten()])
    head.start_at_unigram(counts)
    expected = counts.float()
    expected[list(NEVER)] = 0
    torch.testing.assert_close(all_log_probs(head, torch.zeros(1, DIM))[0].exp(), expected / expected.sum())


def test_a_head_holds_no_copy_of_its_embedding():
    head = make_head("two_level", {}, "qr", {"operation": "multiply"}, 5, False)
    own = {id(parameter) for parameter in head.parameters()}
    assert not own & {id(parameter) for parameter in head.embedding.parameters()}
    assert head.tied
    assert head.rows_1 is None
    other = QuotientRemainderEmbedding(Assignment(VOCAB, own_rows=5, divisor=DIVISOR), DIM)
    before = head.nll(hidden_vectors(1), torch.tensor([40]))
    head.tie(other)
    assert not torch.equal(head.nll(hidden_vectors(1), torch.tensor([40])), before)


@pytest.mark.parametrize(("table", "options"), [("qr", {"operation": "add"}), ("mixed_radix", {"moduli": [4, 4]})])
def test_rows_of_the_same_digits_are_the_inputs(table, options):
    moduli = options.get("moduli", [DIVISOR])
    head = make_head("digits", {"moduli": moduli}, table, options, 5, False)
    assert head.tied
    assert not any("rows" in name for name, _ in head.named_parameters())
    other = make_head("digits", {"moduli": [5, 3]}, table, options, 5, False)
    assert not other.tied
    head.nll(hidden_vectors(40), torch.arange(5, 45)).sum().backward()
    assert all(table.grad is not None for table in head.embedding.digit_rows(moduli))


@settings(max_examples=25, deadline=None)
@given(
    tail=st.integers(1, 60),
    own_rows=st.integers(5, 12),
    moduli=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    condition=st.sampled_from(CONDITIONS),
)
def test_digits_of_any_base_give_a_distribution_over_the_ids(tail, own_rows, moduli, condition):
    options = {"condition": condition, "moduli": moduli}
    head = make_head("digits", options, "qr", {"operation": "add"}, own_rows, False, vocab=own_rows + tail, divisor=4)
    hidden, targets = hidden_vectors(3), torch.tensor([1, own_rows, own_rows + tail - 1])
    log_probs = all_log_probs(head, hidden)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(3), atol=1e-5, rtol=0)
    expected = log_probs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(head.log_prob(hidden, targets), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.topk(hidden, 5)[0], log_probs.topk(min(5, head.num_targets))[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["two_level", "digits"])
@pytest.mark.parametrize("score", [5.0, 14.0, 18.0, 40.0])
@pytest.mark.parametrize("elsewhere", [-100.0, None], ids=["alone", "balanced"])
def test_what_an_excluded_id_leaves_is_exact_however_likely_it_was(kind, score, elsewhere):
    """The rest of its bucket holds all mass, or (balanced) as much as the other bucket."""
    options = {} if kind == "two_level" else {"moduli": [9]}
    head = make_head(kind, options, "qr", {"operation": "add"}, 5, False, vocab=5 + 18, divisor=9)
    with torch.no_grad():
        for parameter in [*head.parameters(), *head.embedding.parameters()]:
            parameter.zero_()
        head.bias[:5] = -torch.inf
        head.bias_1[3] = score
        head.bias[6] = elsewhere if elsewhere is not None else -math.log1p(math.exp(score) / 8)
    steps = 2000
    uniforms = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    drawn = head.sample(torch.zeros(steps, DIM), uniforms, torch.full((steps,), 8))
    share = (drawn < 14).double().mean().item()
    assert (drawn != 8).all()
    assert share == pytest.approx(1.0 if elsewhere is not None else 0.5, abs=2e-3)


def test_moduli_beyond_the_vocabulary_change_nothing():
    heads = [make_head("digits", {"moduli": moduli}, "dense", {}, 5, False) for moduli in ([4, 56], [4, 10**30])]
    heads[1].load_state_dict(heads[0].state_dict())
    hidden, targets = hidden_vectors(VOCAB - 5), torch.arange(5, VOCAB)
    torch.testing.assert_close(*(head.nll(hidden, targets) for head in heads))
    uniforms = seeded_uniforms(VOCAB - 5)
    torch.testing.assert_close(*(head.sample(hidden, uniforms, targets) for head in heads))


@settings(max_examples=50, deadline=None)
@given(data=st.data(), moduli=st.lists(st.integers(2, 2**10), min_size=1, max_size=3))
def test_digits_are_those_of_exact_arithmetic_up_to_2_40(data, moduli):
    tail = data.draw(st.integers(1, 2**10)) * math.prod(moduli)
    codes = data.draw(st.lists(st.integers(0, tail - 1), min_size=1, max_size=5))
    embedding = EMBEDDINGS["mixed_radix"](Assignment(7 + tail, own_rows=7, divisor=1), 2, moduli=moduli)
    head = DigitsHead(embedding, moduli=moduli)
    numbers = torch.tensor(codes)
    assert head._classes(numbers + 7).tolist() == [7 + digits_of(code, moduli)[0] for code in codes]
    for level in range(1, len(moduli) + 1):
        assert head._digit(numbers, level).tolist() == [digits_of(code, moduli)[level] for code in codes]


@pytest.mark.parametrize("vocab", [10**8, 2**40])
def test_digits_of_a_huge_vocabulary_take_a_few_rows(vocab):
    """Every level has about V^(1/k) values, codes stay exact, and no array is as long as the vocabulary."""
    moduli = even_moduli(vocab - 5, 4)
    embedding = EMBEDDINGS["mixed_radix"](Assignment(vocab, own_rows=5, divisor=moduli[0]), DIM, moduli=moduli)
    head = DigitsHead(embedding, never=NEVER, moduli=moduli)
    assert sum(parameter.numel() for parameter in head.parameters()) < 3 * DIM * 4 * vocab**0.25 + 2000
    hidden = hidden_vectors(300)
    drawn = head.sample(hidden, seeded_uniforms(300))
    assert ((drawn >= 0) & (drawn < vocab)).all()
    assert drawn.unique().numel() > 290
    assert (head.sample(hidden, seeded_uniforms(300), drawn) != drawn).all()
    assert head.nll(hidden, drawn).isfinite().all()
    last = head.nll(hidden[:1], torch.tensor([vocab - 1]))
    assert last.isfinite().all()


def test_two_levels_are_refused_where_they_cannot_be():
    with pytest.raises(ValueError, match="full head"):
        TwoLevelHead(DenseEmbedding(Assignment(9, own_rows=9, divisor=1), DIM))
    grid = Assignment(9, own_rows=3, divisor=2)
    with pytest.raises(ValueError, match=r"gated.*mlp, multiply"):
        TwoLevelHead(DenseEmbedding(grid, DIM), condition="gated")
    with pytest.raises(ValueError, match="at least 1"):
        DigitsHead(DenseEmbedding(grid, DIM), moduli=[])
    with pytest.raises(ValueError, match="its own row"):
        TwoLevelHead(DenseEmbedding(grid, DIM), never=[0, 3])
