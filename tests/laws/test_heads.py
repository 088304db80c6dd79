import math
from collections import Counter, defaultdict

import pytest
import torch
from head_cases import (
    DIM,
    FEWER,
    GRIDS,
    HEAD_VARIANTS,
    NEVER,
    VARIANTS,
    VOCAB,
    all_log_probs,
    digits_of,
    gradients,
    hidden_vectors,
    make_head,
    name_of,
    seeded_uniforms,
    targets_of,
)
from torch.nn import functional as F

import quorem.heads.full
import quorem.heads.levels
from quorem.embeddings import EMBEDDINGS, Assignment, DenseEmbedding
from quorem.heads import CosineHead, FullHead, TreeHead
from quorem.heads.levels import LevelsHead

every_head = pytest.mark.parametrize("head", VARIANTS, ids=name_of, indirect=True)
fewer_heads = pytest.mark.parametrize("head", FEWER, ids=name_of, indirect=True)


@pytest.fixture
def head(request, monkeypatch):
    monkeypatch.setattr(quorem.heads.full, "BLOCK", 16)  # several blocks in a small vocabulary
    return make_head(*request.param)


def plain_full(head, hidden):
    """Unnormalised scores (n, V) of the full head or that of cosines, with nothing in pieces."""
    rows = head.embedding(torch.arange(head.embedding.assignment.vocab_size))
    if isinstance(head, CosineHead):
        hidden, rows = hidden / hidden.norm(dim=-1, keepdim=True) * head.scale, rows / rows.norm(dim=-1, keepdim=True)
    scores = hidden @ rows.T + head.bias
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


def plain_tree(head, hidden):
    """log p float64 (n, V) of a tree, an id at a time from its formula."""
    hidden, grid = hidden.double(), head.embedding.assignment
    vectors = head.embedding(grid.ids(torch.arange(grid.vocab_size))).double()  # by rank
    first = hidden @ torch.cat([vectors[: grid.own_rows], head.bucket.double()]).T + head.bias.double()
    first = first.index_fill(-1, grid.ranks(torch.tensor(head.never_ids)), -torch.inf).log_softmax(-1)
    codes = [digits_of(code, head.moduli) for code in range(grid.tail)]

    def score(level, digits):
        number = 0
        for depth, digit in enumerate(digits[: level + 1]):
            number = number * ([1, *reversed(head.moduli)][depth]) + digit
        leaf = level == len(head.moduli)
        row = vectors[grid.own_rows + number] if leaf else getattr(head, f"node_{level}")[number].double()
        bias = getattr(head, f"level_{level}_bias").flatten()[number].double()
        return (hidden @ getattr(head, f"map_{level}").double().T) @ row + bias

    columns = [None] * grid.vocab_size
    for rank in range(grid.own_rows):
        columns[int(grid.ids(torch.tensor(rank)))] = first[:, rank]
    for code, digits in enumerate(codes):
        log_prob = first[:, grid.own_rows + digits[0]]
        for level in range(1, len(digits)):
            possible = sorted({tuple(each[: level + 1]) for each in codes if each[:level] == digits[:level]})
            scores = torch.stack([score(level, each) for each in possible], dim=-1)
            log_prob = log_prob + scores.log_softmax(-1)[:, possible.index(tuple(digits[: level + 1]))]
        columns[int(grid.ids(torch.tensor(grid.own_rows + code)))] = log_prob
    return torch.stack(columns, dim=-1)


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


@fewer_heads
def test_a_target_outside_the_vocabulary_is_an_error_on_the_cpu(head):
    for wrong in (-100, -1, VOCAB):
        with pytest.raises(IndexError, match=f"^id {wrong} is not in the vocabulary"):
            head.nll(hidden_vectors(2), torch.tensor([5, wrong]))


@every_head
def test_value_and_gradients_equal_the_plain_twins(head):
    targets = targets_of(head)
    weights = torch.linspace(0.5, 1.5, len(targets))
    hidden = hidden_vectors(len(targets)).requires_grad_()
    if isinstance(head, FullHead):
        twin = F.cross_entropy(plain_full(head, hidden), targets, reduction="none")
    else:
        plain = plain_tree if isinstance(head, TreeHead) else plain_digits
        twin = -plain(head, hidden).gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    found = head.nll(hidden, targets)
    torch.testing.assert_close(found, twin.float(), atol=1e-5, rtol=1e-5)
    slope, expected_slope = ((each * weights).sum() for each in (found, twin.float()))
    for_hidden = [torch.autograd.grad(loss, hidden, retain_graph=True) for loss in (slope, expected_slope)]
    torch.testing.assert_close(*for_hidden, atol=2e-5, rtol=1e-4)
    # atol: a multiplier's is a sum of large terms of both signs.
    torch.testing.assert_close(gradients(head, slope), gradients(head, expected_slope), atol=1e-4, rtol=1e-4)


@fewer_heads
def test_samples_follow_the_probabilities(head):
    draws = 20_000
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


def tempered(head, log_probs, temperature):
    """p^(1/temperature) at every level: of a token given its prefix, and of the prefix in turn. Brute force."""
    grid, moduli = head.embedding.assignment, getattr(head, "moduli", ())
    codes = [int(rank) - grid.own_rows for rank in grid.ranks(torch.arange(VOCAB))]
    paths = [(("own", token),) if code < 0 else tuple(digits_of(code, moduli)) for token, code in enumerate(codes)]
    if not moduli:
        paths = [(token,) for token in range(VOCAB)]

    masses, after = Counter(), defaultdict(set)
    for path, log_prob in zip(paths, log_probs.tolist(), strict=True):
        for depth in range(len(path)):
            masses[path[: depth + 1]] += math.exp(log_prob)
            after[path[:depth]].add(path[: depth + 1])
    found = torch.ones(VOCAB, dtype=torch.float64)
    for token, path in enumerate(paths):
        for depth in range(len(path)):
            total = sum(masses[each] ** (1 / temperature) for each in after[path[:depth]])
            found[token] *= masses[path[: depth + 1]] ** (1 / temperature) / total
    return found


@fewer_heads
def test_a_temperature_is_that_of_every_level(head):
    steps, hidden = 4_000, hidden_vectors(1)
    uniforms = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    log_probs = all_log_probs(head, hidden)[0].double()
    for temperature in (0.5, 2.0):
        expected = tempered(head, log_probs, temperature)
        for exclude in (None, int(expected.argmax())):
            excluded = None if exclude is None else torch.full((steps,), exclude)
            drawn = head.sample(hidden.expand(steps, -1), uniforms, excluded, temperature=temperature)
            if exclude is not None:
                expected[exclude] = 0
            share = drawn.bincount(minlength=VOCAB) / steps
            torch.testing.assert_close(share, (expected / expected.sum()).float(), atol=20 / steps, rtol=0)


@fewer_heads
def test_an_excluded_id_is_never_drawn_and_the_rest_keep_their_proportions(head):
    """A fine grid of uniforms measures the probability of each id to within some grid steps."""
    steps = 3_000
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


@fewer_heads
def test_each_row_excludes_its_own_id(head):
    targets = targets_of(head).repeat(40)
    drawn = head.sample(hidden_vectors(len(targets)), seeded_uniforms(len(targets)), targets)
    assert (drawn != targets).all()
    assert not torch.isin(drawn, torch.tensor(NEVER)).any()


@fewer_heads
def test_topk_equals_brute_force(head):
    hidden = hidden_vectors(5)
    log_probs = all_log_probs(head, hidden)
    for k in (0, 1, 7, 40, VOCAB):
        values, ids = head.topk(hidden, k)
        possible = min(k, VOCAB - len(NEVER))  # ids that are never targets have no place among the most probable
        expected, expected_ids = log_probs.topk(possible, dim=-1)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_probs.gather(-1, ids), values, atol=1e-5, rtol=1e-5)
        assert all(len(set(row)) == possible for row in ids.tolist())
        assert torch.equal(ids[:, :1], expected_ids[:, :1])


@fewer_heads
def test_topk_of_many_rows_reads_each_node_once_for_all_and_stays_exact(head, monkeypatch):
    if not isinstance(head, LevelsHead):
        pytest.skip("has no nodes")
    read, asked, times = [], head._scores_of_one, []
    monkeypatch.setattr(head, "_scores_of_one", lambda *some: read.append(some[1:]) or asked(*some))
    hidden = hidden_vectors(60)
    log_probs = all_log_probs(head, hidden)
    for shared_by in (0, 3):
        monkeypatch.setattr(quorem.heads.levels, "SHARED_BY", shared_by)
        read.clear()
        values, ids = head.topk(hidden, 9)
        times.append(len(read))
        torch.testing.assert_close(values, log_probs.topk(9, dim=-1).values, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(log_probs.gather(-1, ids), values, atol=1e-5, rtol=1e-5)
        assert all(len(set(row)) == 9 for row in ids.tolist())
    assert times[0] > 0  # every node is read for all of its rows; with 3 only those that enough rows ask for
    assert times[1] <= times[0]


@fewer_heads
def test_uniforms_at_the_edges_give_ids_of_positive_probability(head):
    hidden = hidden_vectors(200) * 4
    log_probs = all_log_probs(head, hidden)
    for uniform in (0.0, 5e-324, 0.5, 1 - 2**-53):
        uniforms = torch.full((200,), uniform, dtype=torch.float64)
        for exclude in (None, targets_of(head)[torch.arange(200) % (VOCAB - len(NEVER))]):
            ids = head.sample(hidden, uniforms, exclude)
            assert (ids >= 0).all()
            assert (ids < VOCAB).all()
            assert log_probs.gather(-1, ids.unsqueeze(-1)).isfinite().all()
            assert exclude is None or (ids != exclude).all()


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


@fewer_heads
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


@fewer_heads
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
    """Exact for the full head and the tree; for digits, exact for the tier's tokens and the buckets' masses."""
    counts = torch.arange(VOCAB) ** 2 % 37  # some are 0, which counts as one half
    head.start_at_unigram(counts)
    share = counts.double().clamp(min=0.5)
    share[list(NEVER)] = 0
    share = (share / share.sum()).float()
    grid = head.embedding.assignment
    found = all_log_probs(head, torch.zeros(1, DIM))[0].exp()
    if isinstance(head, FullHead | TreeHead):
        torch.testing.assert_close(found, share, atol=1e-6, rtol=1e-5)
        return
    ranks = torch.arange(VOCAB)
    classes = torch.where(ranks < grid.own_rows, ranks, grid.own_rows + (ranks - grid.own_rows) // head.spans[0])
    masses = [torch.zeros(len(head.bias)).index_add(0, classes, each[grid.ids(ranks)]) for each in (found, share)]
    torch.testing.assert_close(*masses, atol=1e-6, rtol=1e-5)


@fewer_heads
def test_hidden_vectors_that_are_not_numbers_draw_ids_of_the_vocabulary(head):
    """So that the loss can say what happened, rather than an index out of range."""
    for value in (torch.nan, torch.inf):
        drawn = head.sample(torch.full((3, DIM), value), seeded_uniforms(3))
        assert ((drawn >= 0) & (drawn < VOCAB)).all()


def test_fewer_heads_have_every_option_kind_of_table_and_grid():
    assert all(any(each[:2] == variant for each in FEWER) for variant in HEAD_VARIANTS)
    assert {each[2] for each in FEWER} == set(EMBEDDINGS)
    assert {each[4:] for each in FEWER} == set(GRIDS)


@pytest.mark.parametrize("never", [[-1], [300]])
def test_an_id_that_there_is_not_is_never_one_of_never(never):
    table = DenseEmbedding(Assignment(300, own_rows=300, divisor=1), 8)
    with pytest.raises(ValueError, match=r"never=-?\d+: an id from 0 to 299 needed"):
        FullHead(table, never=never)
    with pytest.raises(ValueError, match=r"scale=0: a number above 0 needed"):
        CosineHead(table, scale=0)
