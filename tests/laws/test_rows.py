"""The laws of rows: nothing is lost, nothing is shown twice, isolated documents do not notice each other."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.config.loading import override
from quorem.config.settings import PretrainConfig
from quorem.data.batches import TokenBudgetOrder
from quorem.data.rows import ROWS, DocumentRows, IsolatedRows, best_fit, windows
from quorem.models.masking import mask_tokens, real_tokens
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.pretraining.program import build_electra

PAD, CLS, SEP = 0, 2, 3
documents_of = st.lists(st.integers(0, 25), min_size=1, max_size=20)  # tokens of each, its [SEP] aside


class Memory:
    """Stands for shards: documents of random ids, [SEP] after each."""

    def __init__(self, lengths, seed=0):
        rng = np.random.default_rng(seed)
        self.documents = [[*rng.integers(5, 100, length).tolist(), SEP] for length in lengths]
        self.tokens = np.array([i for document in self.documents for i in document], np.uint16)
        self.ends = np.cumsum([len(document) for document in self.documents])


def build(kind, shards, max_length):
    return ROWS[kind](shards, max_length=max_length, cls_id=CLS, pad_id=PAD)


def steps(rows, *, batch_size, epoch=0, seed=3):
    order = rows.order(batch_size=batch_size, seed=seed)
    return [order.indices(epoch * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]


@pytest.mark.parametrize("kind", ROWS)
@settings(max_examples=40, deadline=None)
@given(lengths=documents_of, max_length=st.integers(3, 24), batch_size=st.integers(1, 5), epoch=st.integers(0, 2))
def test_an_epoch_shows_every_token_once(kind, lengths, max_length, batch_size, epoch):
    shards = Memory(lengths)
    rows, shown = build(kind, shards, max_length), []
    for indices in steps(rows, batch_size=batch_size, epoch=epoch):
        input_ids, mask = rows.batch(indices)
        assert input_ids.dtype == torch.int64
        assert len(input_ids) == len(indices)
        assert input_ids.shape[1] <= max_length
        assert input_ids.numel() <= batch_size * max_length
        real = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else real_tokens(mask)
        assert (input_ids[~real] == PAD).all()
        shown += input_ids[real & (input_ids != CLS)].tolist()
    assert sorted(shown) == sorted(shards.tokens.tolist())


@pytest.mark.parametrize("kind", ROWS)
def test_batches_are_a_function_of_seed_and_step_and_differ_by_epoch(kind):
    rows = build(kind, Memory(np.random.default_rng(1).integers(0, 20, 60)), 16)
    order = rows.order(batch_size=4, seed=1)
    forwards = [order.indices(step).tolist() for step in range(3 * order.steps_per_epoch)]
    backwards = [order.indices(step).tolist() for step in reversed(range(3 * order.steps_per_epoch))][::-1]
    assert forwards == backwards
    epochs = [forwards[i * order.steps_per_epoch : (i + 1) * order.steps_per_epoch] for i in range(3)]
    assert epochs[0] != epochs[1] != epochs[2]
    other = rows.order(batch_size=4, seed=2)
    assert [other.indices(step).tolist() for step in range(order.steps_per_epoch)] != epochs[0]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40), budget=st.integers(1, 200), epoch=st.integers(0, 3)
)
def test_batches_of_a_budget_keep_to_it_and_visit_each_item_once(lengths, budget, epoch):
    lengths = np.array(lengths)
    order = TokenBudgetOrder(lengths, budget=budget, multiple=4, seed=0)
    batches = [order.indices(epoch * order.steps_per_epoch + step) for step in range(order.steps_per_epoch)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * (-(-lengths[batch].max() // 4) * 4) <= budget


@settings(max_examples=60, deadline=None)
@given(lengths=documents_of, width=st.integers(1, 30))
def test_windows_cover_every_document_without_overlap(lengths, width):
    shards = Memory(lengths)
    starts, sizes = windows(shards.ends, width=width)
    assert sizes.min() >= 1
    assert sizes.max() <= width
    assert np.concatenate([np.arange(a, a + n) for a, n in zip(starts, sizes, strict=True)]).tolist() == list(
        range(len(shards.tokens))
    )
    assert len(starts) == sum(-(-len(document) // width) for document in shards.documents)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=80), capacity=st.integers(30, 64))
def test_best_fit_overfills_no_row_and_leaves_no_two_that_would_fit_in_one(lengths, capacity):
    lengths = np.array(lengths)
    row_of = best_fit(lengths, capacity=capacity)
    filled = np.bincount(row_of, lengths)
    assert filled.max() <= capacity
    assert filled.min() >= 1
    fullest_pair = np.sort(filled)[:2].sum()
    assert len(filled) == 1 or fullest_pair > capacity


def network(positions):
    assignments = ["model.size=tiny", f"model.positions={positions}", "data.max_length=16", "model.dropout=0"]
    module = build_electra(
        Plan.of(resolve(override(PretrainConfig(), assignments)), 100), torch.ones(100, dtype=torch.int64)
    )
    return module.eval()


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_isolated_documents_have_the_outputs_they_have_alone(positions):
    shards, module = Memory([3, 5, 2, 4, 20, 1]), network(positions)
    alone, together = build("documents", shards, 16), build("isolated", shards, 16)
    expected = {}
    for index in range(len(alone)):
        ids = torch.tensor([alone.row(index)])
        expected[index] = module.discriminator(ids).logits[0]
    assert len(together) < len(alone)
    input_ids, mask = together.batch(np.arange(len(together)))
    scores = module.discriminator(input_ids, mask).logits
    for row in range(len(together)):
        start = 0
        for member in together.members[together.first[row] : together.first[row + 1]]:
            end = start + len(alone.row(member))
            torch.testing.assert_close(scores[row, start:end], expected[int(member)], atol=1e-5, rtol=1e-5)
            start = end


@pytest.mark.parametrize("positions", ["absolute", "rotary", "alibi"])
def test_changing_a_document_changes_no_other_in_its_row_and_padding_changes_nothing(positions):
    shards, module = Memory([3, 4, 1]), network(positions)
    rows = IsolatedRows(shards, max_length=16, cls_id=CLS, pad_id=PAD)
    input_ids, mask = rows.batch(np.array([0]))
    document = [number for number, member in enumerate(rows.members) for _ in rows.row(member)]
    assert len(set(document)) == 3
    before = module.discriminator(input_ids, mask).logits[0]
    changed = input_ids.clone()
    changed[0, document.index(1) + 1] += 1
    after = module.discriminator(changed, mask).logits[0]
    moved = ((after - before).abs() > 1e-6)[: len(document)]
    assert {number for number, different in zip(document, moved.tolist(), strict=True) if different} == {1}
    assert input_ids.shape[1] > len(document)
    changed = input_ids.clone()
    changed[0, len(document) :] = 7
    after = module.discriminator(changed, mask).logits[0]
    torch.testing.assert_close(after[: len(document)], before[: len(document)])


def test_masks_and_losses_of_isolated_documents_count_real_tokens_only():
    shards, module = Memory([3, 5, 2]), network("rotary")
    rows = IsolatedRows(shards, max_length=16, cls_id=CLS, pad_id=PAD)
    input_ids, mask = rows.batch(np.array([0]))
    rng = torch.Generator().manual_seed(0)
    masked = mask_tokens(input_ids, mask, special=torch.tensor([0, 2, 3, 4]), mask_id=4, rate=0.5, rng=rng)
    assert masked.num_tokens == len(shards.tokens) + 3
    assert masked.num_chosen == 5
    assert not (masked.chosen & ~real_tokens(mask)).any()
    positions = masked.chosen.flatten().nonzero().squeeze(-1)
    outcome = module(input_ids, mask, masked.masked_ids, positions, masked.uniforms.flatten()[positions])
    assert torch.equal(outcome.real, real_tokens(mask))
    each = torch.nn.functional.binary_cross_entropy_with_logits(
        outcome.scores, outcome.is_replaced.float(), reduction="none"
    )
    torch.testing.assert_close(outcome.rtd_sum, each[outcome.real].sum())


def test_short_documents_need_little_padding():
    """Shares of padding that the classes are for; a row each in a random order would pad far more."""
    lengths = np.random.default_rng(0).geometric(0.2, 3000)
    shards = Memory(lengths)
    for kind, most in (("documents", 0.35), ("isolated", 0.02)):
        rows = build(kind, shards, 64)
        padding = total = 0
        for indices in steps(rows, batch_size=16):
            input_ids, mask = rows.batch(indices)
            total += input_ids.numel()
            padding += 0 if mask is None else int((~real_tokens(mask)).sum())
        assert padding / total < most, kind
    assert isinstance(rows, DocumentRows)
