import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import quorem.heads.full
from quorem.embeddings import EMBEDDINGS, Assignment, DenseEmbedding, QuotientRemainderEmbedding
from quorem.embeddings.mixed_radix import even_moduli
from quorem.embeddings.partition import OPERATIONS
from quorem.heads import HEADS, DigitsHead, FullHead, TwoLevelHead
from quorem.heads.base import draw
from quorem.heads.condition import CONDITIONS
from quorem.order import frequency_order

VOCAB, DIM, DIVISOR, NEVER = 61, 8, 9, (0, 2, 3, 4)
TABLE_OPTIONS = {
    "dense": [{}],
    "qr": [*({"operation": operation} for operation in OPERATIONS), {"operation": "multiply", "rank": 2}],
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


every_head = pytest.mark.parametrize("head", VARIANTS, ids=name_of, indirect=True)


@pytest.fixture
def head(request):
    return make_head(*request.param)


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


def gradients(head, loss):
    """Gradients by name, of the head and its embedding."""
    parameters = {**dict(head.named_parameters()), **{f"E.{k}": v for k, v in head.embedding.named_parameters()}}
    found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(parameters.items(), found, strict=True)
    }


def plain_full(head, hidden):
    """Unnormalised scores (n, V) of the full head, with nothing in pieces."""
    scores = hidden @ head.embedding(torch.arange(head.embedding.assignment.vocab_size)).T + head.bias
    return scores.index_fill(-1, torch.tensor(head.never_ids), -torch.inf)


def plain_digits(head, hidden):
    """log p float64 (n, V) of a head of digits, an id at a time from its formula."""
    parameters = {name: parameter.double() for name, parameter in head.named_parameters()}
    hidden, grid, embedding = hidden.double(), head.embedding.assignment, head.embedding
    tier = embedding(grid.ids(torch.arange(grid.own_rows))).double()
    first = hidden @ torch.cat([tier, parameters["bucket"]]).T + parameters["bias"]
    first = first.index_fill(-1, grid.ranks(torch.tensor(head.never_ids)), -torch.inf).log_softmax(-1)
    tables = [embedding.remainder] if hasattr(embedding, "remainder") else getattr(embedding, "tables", [])[-2::-1]
    codes = [digits_of(code, head.moduli) for code in range(grid.tail)]

    def after(state, level, digit):
        part = f"conditions.{level}."
        gate = parameters[part + "gate"][digit].expand_as(state)
        if head.conditions[level].kind == "multiply":
            return state * gate
        mixed = F.linear(
            torch.cat([state, gate], -1), parameters[part + "mix.0.weight"], parameters[part + "mix.0.bias"]
        )
        mixed = F.linear(F.gelu(mixed), parameters[part + "mix.2.weight"], parameters[part + "mix.2.bias"])
        return F.layer_norm(state + mixed, (DIM,), parameters[part + "norm.weight"], parameters[part + "norm.bias"])

    columns = [None] * grid.vocab_size
    for rank in range(grid.own_rows):
        columns[int(grid.ids(torch.tensor(rank)))] = first[:, rank]
    for code, digits in enumerate(codes):
        state, log_prob = hidden, first[:, grid.own_rows + digits[0]]
        for level in range(1, len(digits)):
            state = after(state, level - 1, digits[level - 1])
            rows = parameters[f"rows_{level}"] if f"rows_{level}" in parameters else tables[level - 1].double()
            scores = state * parameters.get(f"scale_{level}", 1.0) @ rows.T + parameters[f"bias_{level}"]
            possible = sorted({other[level] for other in codes if other[:level] == digits[:level]})
            log_prob = log_prob + scores[:, possible].log_softmax(-1)[:, possible.index(digits[level])]
        columns[int(grid.ids(torch.tensor(grid.own_rows + code)))] = log_prob
    return torch.stack(columns, dim=-1)


def digits_of(code, moduli):
    """Most significant first."""
    digits = []
    for modulus in moduli:
        digits.append(code % modulus)
        code //= modulus
    return [code, *reversed(digits)]


@every_head
def test_probabilities_sum_to_one_and_are_zero_only_for_ids_that_are_never_targets(head):
    log_probs = all_log_probs(head, hidden_vectors(6))
    assert log_probs.dtype == torch.float32
    assert not log_probs.requires_grad
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(6), atol=1e-5, rtol=0)
    assert (log_probs[:, list(NEVER)] == -torch.inf).all()
    assert log_probs[:, targets_of(head)].isfinite().all()


@every_head
def test_nll_is_the_gathered_log_probability(head):
    targets = targets_of(head)
    hidden = hidden_vectors(len(targets))
    expected = all_log_probs(head, hidden).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(-head.nll(hidden, targets), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(head.log_prob(hidden, targets), expected, atol=1e-5, rtol=1e-5)


@every_head
def test_value_and_gradients_equal_the_plain_twins(head):
    targets = targets_of(head)
    weights = torch.linspace(0.5, 1.5, len(targets))
    hidden = hidden_vectors(len(targets)).requires_grad_()
    if isinstance(head, FullHead):
        twin = F.cross_entropy(plain_full(head, hidden), targets, reduction="none")
    else:
        twin = -plain_digits(head, hidden).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    found = head.nll(hidden, targets)
    torch.testing.assert_close(found, twin.float(), atol=1e-5, rtol=1e-5)
    slope, expected_slope = ((each * weights).sum() for each in (found, twin.float()))
    for_hidden = [torch.autograd.grad(loss, hidden, retain_graph=True) for loss in (slope, expected_slope)]
    torch.testing.assert_close(*for_hidden, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(gradients(head, slope), gradients(head, expected_slope), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("scores_at_once", [1, 300, 1000])
@pytest.mark.parametrize(("table", "options"), [("dense", {}), ("qr", {"operation": "multiply"})])
def test_chunks_of_the_full_head_change_nothing(monkeypatch, table, options, scores_at_once):
    """Chunks of one id, five and seventeen: some hold only ids that are never targets, the last is incomplete."""
    head = make_head("full", {}, table, options, 17, True)
    targets = targets_of(head)
    hidden = hidden_vectors(len(targets)).requires_grad_()
    uniforms, exclude = seeded_uniforms(len(targets)), targets.flip(0)

    def everything():
        loss = head.nll(hidden, targets)
        slope = torch.autograd.grad(loss.sum(), hidden, retain_graph=True)[0]
        values, ids = head.topk(hidden, 7)
        drawn = head.sample(hidden, uniforms), head.sample(hidden, uniforms, exclude)
        return loss, slope, gradients(head, loss.sum()), all_log_probs(head, hidden), values, ids, drawn

    once = everything()
    monkeypatch.setattr(quorem.heads.full, "SCORES_AT_ONCE", scores_at_once)
    assert len(head.embedding.chunks(head._chunk_size(len(hidden)))) > 3
    torch.testing.assert_close(everything(), once, atol=2e-5, rtol=1e-4)


@every_head
def test_samples_follow_the_probabilities(head):
    draws = 100_000
    hidden = hidden_vectors(1)
    ids = head.sample(hidden.expand(draws, -1), seeded_uniforms(draws))
    assert ids.dtype == torch.int64
    expected = all_log_probs(head, hidden)[0].double().exp() * draws
    counts = ids.bincount(minlength=VOCAB).double()
    assert counts[expected == 0].sum() == 0
    common = expected >= 5
    chi_square = ((counts - expected)[common] ** 2 / expected[common]).sum()
    freedom = int(common.sum()) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5
    assert abs(counts[~common].sum() - expected[~common].sum()) <= 5 * expected[~common].sum().sqrt() + 5


@every_head
def test_an_excluded_id_is_never_drawn_and_the_rest_keep_their_proportions(head):
    """A fine grid of uniforms measures the probability of each id to within some grid steps."""
    steps = 20_000
    uniforms = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    hidden = hidden_vectors(1)
    before = all_log_probs(head, hidden)[0].double().exp()
    ranks = head.embedding.assignment
    likely = int(before.argmax())
    first_of_tail, last = (int(ranks.ids(torch.tensor(rank))) for rank in (ranks.own_rows % VOCAB, VOCAB - 1))
    for excluded in {likely, first_of_tail, last, 1, 2}:
        exclude = torch.full((steps,), excluded)
        counts = head.sample(hidden.expand(steps, -1), uniforms, exclude).bincount(minlength=VOCAB)
        assert counts[excluded] == 0
        expected = before.clone()
        expected[excluded] = 0
        torch.testing.assert_close(counts / steps, (expected / expected.sum()).float(), atol=20 / steps, rtol=0)


@every_head
def test_each_row_excludes_its_own_id(head):
    targets = targets_of(head).repeat(40)
    drawn = head.sample(hidden_vectors(len(targets)), seeded_uniforms(len(targets)), targets)
    assert (drawn != targets).all()
    assert not torch.isin(drawn, torch.tensor(NEVER)).any()


@every_head
@pytest.mark.parametrize("k", [1, 7, 40, VOCAB])
def test_topk_equals_brute_force(head, k):
    hidden = hidden_vectors(5)
    values, ids = head.topk(hidden, k)
    possible = min(k, VOCAB - len(NEVER))  # ids that are never targets have no place among the most probable
    log_probs = all_log_probs(head, hidden)
    expected, expected_ids = log_probs.topk(possible, dim=-1)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(log_probs.gather(-1, ids), values, atol=1e-5, rtol=1e-5)
    assert all(len(set(row)) == possible for row in ids.tolist())
    assert torch.equal(ids[:, 0], expected_ids[:, 0])


@every_head
@pytest.mark.parametrize("uniform", [0.0, 5e-324, 0.5, 1 - 2**-53])
def test_uniforms_at_the_edges_give_ids_of_positive_probability(head, uniform):
    hidden = hidden_vectors(200) * 4
    uniforms = torch.full((200,), uniform, dtype=torch.float64)
    for exclude in (None, targets_of(head)[torch.arange(200) % (VOCAB - len(NEVER))]):
        ids = head.sample(hidden, uniforms, exclude)
        assert (ids >= 0).all()
        assert (ids < VOCAB).all()
        assert all_log_probs(head, hidden).gather(-1, ids.unsqueeze(-1)).isfinite().all()
        assert exclude is None or (ids != exclude).all()


def test_draw_never_gives_an_impossible_index_and_leaves_a_uniform():
    scores = torch.tensor([[-torch.inf, 0.0, -torch.inf, -200.0, 1.0, -torch.inf]])
    uniforms = (torch.arange(50_000, dtype=torch.float64) + 0.5) / 50_000
    index, left = draw(scores.expand(50_000, -1), uniforms)
    assert set(index.tolist()) == {1, 4}
    for drawn in (1, 4):
        rest = left[index == drawn].sort().values
        torch.testing.assert_close(rest, torch.linspace(0, 1, len(rest), dtype=torch.float64), atol=1e-3, rtol=0)
    assert left.max() < 1


@pytest.mark.parametrize("count", [512, 513, 1000, 4096])
def test_a_draw_among_many_inverts_the_same_distribution(count):
    """Uniforms on a grid meet every share, past the count at which blocks are drawn first; the last block is short."""
    draws, rng = 200_000, torch.Generator().manual_seed(1)
    scores = torch.randn(1, count, generator=rng) * 2
    scores[0, ::7] = -torch.inf
    scores[0, 256:512] = -torch.inf  # a block that is never drawn
    index, left = draw(scores.expand(draws, -1), (torch.arange(draws, dtype=torch.float64) + 0.5) / draws)
    found = index.bincount(minlength=count) / draws
    torch.testing.assert_close(found, scores[0].softmax(0), atol=3 / draws, rtol=0)
    assert (index.diff() >= 0).all()
    rest = left[index == scores[0].argmax()].sort().values
    torch.testing.assert_close(rest, torch.linspace(0, 1, len(rest), dtype=torch.float64), atol=1e-2, rtol=0)
    assert ((left >= 0) & (left < 1)).all()


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


@pytest.mark.parametrize(("kind", "options"), [("full", {}), ("two_level", {}), ("digits", {"moduli": [31, 31]})])
def test_a_token_with_half_the_mass_is_drawn_half_the_time_under_autocast(kind, options):
    """30,000 near-equal scores far below the top one: what breaks Gumbel noise in bfloat16."""
    vocab, draws = 30_000, 2000
    head = make_head(kind, options, "qr", {"operation": "multiply"}, 205, False, vocab=vocab, divisor=173)
    counts = torch.ones(vocab)
    counts[100] = vocab - 1
    head.start_at_unigram(counts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = torch.zeros(1, DIM)
        drawn = head.sample(hidden.expand(draws, -1), (torch.arange(draws, dtype=torch.float64) + 0.5) / draws)
        log_prob = head.log_prob(hidden, torch.tensor([100]))
    assert (drawn == 100).double().mean().item() == pytest.approx(0.5, abs=0.02)
    assert log_prob.exp().item() == pytest.approx(0.5, abs=1e-3)
    assert len(drawn.unique()) > 900


@every_head
def test_log_probabilities_are_float32_under_autocast_and_in_a_bfloat16_module(head):
    targets = targets_of(head)
    hidden = hidden_vectors(len(targets))
    exact = head.nll(hidden, targets)
    half = torch.bfloat16
    with torch.autocast("cpu", dtype=half):
        cases = [(head, hidden), (head, hidden.to(half))]
        found = [each.nll(rows, targets) for each, rows in cases]
        probabilities = all_log_probs(head, hidden.to(half))
        values = head.topk(hidden.to(half), 3)[0]
    head.embedding.to(half)
    found.append(head.to(half).nll(hidden.to(half), targets))
    assert head.sample(hidden.to(half), seeded_uniforms(len(targets))).dtype == torch.int64
    for nll in found:
        assert nll.dtype == torch.float32
        torch.testing.assert_close(nll, exact, atol=0.15, rtol=0.05)
    assert probabilities.dtype == values.dtype == torch.float32
    torch.testing.assert_close(probabilities.exp().sum(-1), torch.ones(len(targets)), atol=1e-5, rtol=0)


@every_head
def test_no_rows_are_no_trouble(head):
    hidden = torch.zeros(0, DIM, requires_grad=True)
    nothing = torch.zeros(0, dtype=torch.int64)
    uniforms = torch.zeros(0, dtype=torch.float64)
    loss = head.nll(hidden, nothing)
    assert loss.shape == (0,)
    loss.sum().backward()
    assert head.sample(hidden, uniforms).shape == head.sample(hidden, uniforms, nothing).shape == (0,)
    assert [each.shape for each in head.topk(hidden, 3)] == [(0, 3), (0, 3)]
    assert all_log_probs(head, hidden).shape == (0, VOCAB)


@every_head
def test_start_at_unigram_gives_the_unigram_distribution_for_no_hidden_vector(head):
    """Exact for the full head; for digits, exact for the tier's tokens and the buckets' masses."""
    counts = torch.arange(VOCAB) ** 2 % 37  # some are 0, which counts as one half
    head.start_at_unigram(counts)
    share = counts.double().clamp(min=0.5)
    share[list(NEVER)] = 0
    share = (share / share.sum()).float()
    grid = head.embedding.assignment
    found = all_log_probs(head, torch.zeros(1, DIM))[0].exp()
    if isinstance(head, FullHead):
        torch.testing.assert_close(found, share, atol=1e-6, rtol=1e-5)
        return
    ranks = torch.arange(VOCAB)
    classes = torch.where(ranks < grid.own_rows, ranks, grid.own_rows + (ranks - grid.own_rows) // head.spans[0])
    masses = [torch.zeros(len(head.bias)).index_add(0, classes, each[grid.ids(ranks)]) for each in (found, share)]
    torch.testing.assert_close(*masses, atol=1e-6, rtol=1e-5)


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


@every_head
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_hidden_vectors_that_are_not_numbers_draw_ids_of_the_vocabulary(head, value):
    """So that the loss can say what happened, rather than an index out of range."""
    drawn = head.sample(torch.full((3, DIM), value), seeded_uniforms(3))
    assert ((drawn >= 0) & (drawn < VOCAB)).all()


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
    with pytest.raises(ValueError, match="row of its own"):
        TwoLevelHead(DenseEmbedding(grid, DIM), never=[0, 3])
