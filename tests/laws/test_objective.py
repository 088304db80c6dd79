"""The laws of ELECTRA's objective. The trap numbers name known faults of other implementations."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from objective_cases import NETWORKS, QR, SPECIAL, VOCAB, assert_same_step, build, gradients, run, sample_batch
from torch import nn

from quorem.models.electra import Electra, total_loss
from quorem.models.masking import Masked, mask_tokens
from quorem.training.metrics import BinaryMetrics


class StubHead(nn.Module):
    """Scores nothing and samples what it is told to."""

    def __init__(self, samples):
        super().__init__()
        self.samples = samples

    def nll(self, hidden, targets):
        return torch.zeros(len(targets))

    def sample(self, hidden, uniforms):
        return self.samples


class StubGenerator(nn.Module):
    def __init__(self, samples):
        super().__init__()
        self.generator_lm_head = StubHead(samples)

    def hidden_at(self, input_ids, attention_mask, positions):
        return torch.zeros(len(positions), 4)


class StubDiscriminator(nn.Module):
    """Remembers how it was called; its scores are those given, or the ids it reads."""

    def __init__(self, scores=None):
        super().__init__()
        self.scores, self.calls = scores, []

    def forward(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        return SimpleNamespace(logits=args[0].float() if self.scores is None else self.scores)


@pytest.mark.slow
@pytest.mark.parametrize("embedding", [{}, QR], ids=["dense", "qr"])
def test_samples_follow_the_softmax_and_are_not_its_argmax(embedding):
    """Trap 1."""
    head = build(embedding=embedding).generator.generator_lm_head
    hidden = torch.randn(1, 128, generator=torch.Generator().manual_seed(1))
    probabilities = torch.zeros(VOCAB)
    for ids, log_prob in head.full_log_prob(hidden):
        probabilities[ids] = log_prob[0].exp()
    draws = 40_000
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = torch.bincount(head.sample(hidden.expand(draws, -1), uniforms), minlength=VOCAB) / draws
    assert (found - probabilities).abs().sum() / 2 < 0.019
    assert not found[SPECIAL].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("vocab_size", "embedding"), [(30_522, {}), (30_522, QR), (1_000_000, QR)])
def test_a_token_of_probability_a_half_is_drawn_half_the_time_under_autocast(vocab_size, embedding, dtype):
    """Trap 1b; stratified noise, so that the share is exact with few draws."""
    counts = torch.ones(vocab_size, dtype=torch.int64)
    counts[:5] = 0
    counts[7] = counts.sum() - 1
    head = build(vocab_size=vocab_size, embedding=embedding).generator.generator_lm_head
    head.start_at_unigram(counts)
    with torch.autocast("cpu", dtype=dtype):
        found = head.sample(torch.zeros(200, 128), (torch.arange(200, dtype=torch.float64) + 0.5) / 200)
    assert abs((found == 7).float().mean().item() - 0.5) < 0.02
    assert found[found != 7].unique().numel() > 90  # and the others are not a few ties


def test_a_generator_that_is_always_right_replaces_nothing():
    """Trap 2: labels compare with the originals, not with the masked input."""
    masked = sample_batch()
    outcome = run(
        Electra(StubGenerator(masked.input_ids[masked.chosen]), StubDiscriminator(), shared_embeddings=False), masked
    )
    assert not outcome.is_replaced.any()


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_only_chosen_positions_are_ever_replaced(keep):
    """Traps 3 and 7, and 4: tokens kept visible are sampled anew like the masked ones."""
    masked = sample_batch(keep=keep)
    samples = torch.full((masked.num_chosen,), VOCAB + 1)
    discriminator = StubDiscriminator()
    outcome = run(Electra(StubGenerator(samples), discriminator, shared_embeddings=False), masked)
    assert torch.equal(outcome.is_replaced, masked.chosen)
    corrupted = discriminator.calls[0][0][0]
    assert torch.equal(corrupted, masked.input_ids.masked_fill(masked.chosen, VOCAB + 1))


def test_the_generator_is_scored_at_chosen_positions_only_the_visible_ones_included():
    """Trap 4."""
    module, masked = build(), sample_batch(keep=0.5)
    visible = masked.chosen & (masked.masked_ids == masked.input_ids)
    assert visible.any()
    assert (masked.chosen & ~visible).any()
    outcome = run(module, masked)
    assert outcome.targets.tolist() == masked.input_ids[masked.chosen].tolist()
    logits = module.generator(masked.masked_ids, masked.attention_mask).logits
    logits[..., SPECIAL] = -torch.inf
    each = -torch.log_softmax(logits, -1).gather(-1, masked.input_ids.unsqueeze(-1)).squeeze(-1)
    assert outcome.mlm_sum.item() == pytest.approx(each[masked.chosen].sum().item(), rel=1e-5)


def test_a_step_with_nothing_to_mask_has_a_finite_loss_and_finite_gradients():
    """Trap 6: transformers' loss is nan here."""
    row = torch.tensor([[2, 3, 0], [2, 3, 0]])
    masked = mask_tokens(row, row != 0, special=SPECIAL, mask_id=4, rate=0.15)
    module = build()
    outcome = run(module, masked)
    total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens).backward()
    assert masked.num_chosen == 0
    assert outcome.mlm_sum == 0
    assert outcome.rtd_sum > 0
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    assert total_loss(outcome, num_chosen=0, num_tokens=0).isfinite()


@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_more_padding_changes_neither_loss_nor_gradients(options):
    """Traps 12 and 25."""
    module, masked = build(**options), sample_batch()
    padded = Masked(
        *(
            nn.functional.pad(part, (0, 9), value=value)
            for part, value in (
                (masked.input_ids, 0),
                (masked.attention_mask, False),
                (masked.masked_ids, 0),
                (masked.chosen, False),
                (masked.uniforms, 0.5),
            )
        )
    )
    counts = {"num_chosen": masked.num_chosen, "num_tokens": masked.num_tokens}
    assert (padded.num_chosen, padded.num_tokens) == tuple(counts.values())
    assert_same_step(gradients(module, [masked], **counts), gradients(module, [padded], **counts))


def test_what_stands_under_the_padding_does_not_matter():
    """Trap 12: the sum over real tokens, and no attention to the others."""
    module, masked = build(), sample_batch()
    outcome = run(module, masked)
    garbage = masked.input_ids.masked_fill(~masked.attention_mask, 33)
    other = run(
        module, replace(masked, input_ids=garbage, masked_ids=masked.masked_ids.where(masked.attention_mask, 33))
    )
    assert other.rtd_sum.item() == pytest.approx(outcome.rtd_sum.item(), rel=1e-6)
    each = nn.functional.binary_cross_entropy_with_logits(outcome.scores, outcome.is_replaced.float(), reduction="none")
    assert outcome.rtd_sum.item() == pytest.approx(each[masked.attention_mask].sum().item(), rel=1e-6)


def test_the_total_is_the_mean_of_each_with_its_weight():
    """Trap 13: g + 50 d."""
    masked = sample_batch()
    outcome = run(build(), masked)
    loss = total_loss(outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens)
    mlm, rtd = outcome.mlm_sum / masked.num_chosen, outcome.rtd_sum / masked.num_tokens
    assert loss.shape == ()
    assert loss.item() == pytest.approx((mlm + 50 * rtd).item())
    weighted = total_loss(
        outcome, num_chosen=masked.num_chosen, num_tokens=masked.num_tokens, mlm_weight=0.5, rtd_weight=7.0
    )
    assert weighted.item() == pytest.approx((0.5 * mlm + 7 * rtd).item())


@pytest.mark.parametrize("cuts", [(0, 1, 2, 3, 4), (0, 3, 4), (0, 2, 4)])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_micro_batches_of_uneven_rows_add_up_to_the_whole_batch(options, cuts):
    """Traps 13, 14 and 25: means over the step, not means of means; also how processes share a step."""
    module, masked = build(**options), sample_batch()
    counts = {"num_chosen": masked.num_chosen, "num_tokens": masked.num_tokens}
    parts = [masked.rows(start, stop) for start, stop in itertools.pairwise(cuts)]
    assert_same_step(gradients(module, [masked], **counts), gradients(module, parts, **counts))


def test_the_discriminator_sees_ids_and_mask_and_no_label():
    """Trap 16: labels must not leak, for instance as token types."""
    masked = sample_batch()
    discriminator = StubDiscriminator()
    samples = torch.full((masked.num_chosen,), 50)
    run(Electra(StubGenerator(samples), discriminator, shared_embeddings=False), masked)
    ((args, kwargs),) = discriminator.calls
    assert not kwargs
    assert len(args) == 2
    assert args[1] is masked.attention_mask


def test_other_labels_for_the_same_input_leave_the_scores_alone():
    """Trap 16."""
    discriminator = build().discriminator.eval()
    masked = sample_batch()
    samples = torch.full((masked.num_chosen,), 50)
    module = Electra(StubGenerator(samples), discriminator, shared_embeddings=False)
    truth = replace(masked, input_ids=masked.input_ids.masked_fill(masked.chosen, 50))
    outcome, other = run(module, masked), run(module, truth)
    assert outcome.is_replaced.any()
    assert not other.is_replaced.any()
    assert torch.equal(outcome.scores, other.scores)


def test_dropout_is_on_in_both_networks_while_training_and_repeats_with_the_seed():
    """Trap 21: sampling sees the generator as it is trained, as in the reference; two settings turn it off."""
    masked = sample_batch()
    module = build(dropout=0.3, generator={"dropout": 0.0}).train()
    one, two = run(module, masked), run(module, masked)
    assert torch.equal(one.hidden, two.hidden)
    assert not torch.equal(one.scores, two.scores)
    for dropout in (0.0, 0.3):
        module = build(dropout=dropout)
        outcomes = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            outcomes.append(run(module.train(), masked))
        calm = run(module.eval(), masked)
        assert torch.equal(outcomes[0].hidden, outcomes[1].hidden)
        assert torch.equal(outcomes[0].scores, outcomes[1].scores)
        assert torch.equal(outcomes[0].hidden, outcomes[2].hidden) == (dropout == 0)
        assert torch.equal(outcomes[0].hidden, calm.hidden) == (dropout == 0)
        assert torch.equal(outcomes[0].scores, outcomes[2].scores) == (dropout == 0)


def test_the_metric_calls_a_token_replaced_above_logit_zero():
    """Trap 24: not above 0.5; padding does not count."""
    masked = sample_batch((4, 3))
    scores = torch.tensor([[-0.1, 0.2, -0.3, -9.0], [-0.1, 0.4, 0.3, 9.0]])
    chosen = torch.tensor([[False, True, False, False], [False, True, False, False]])
    samples = torch.tensor([VOCAB, VOCAB])
    module = Electra(StubGenerator(samples), StubDiscriminator(scores), shared_embeddings=False)
    outcome = run(module, replace(masked, chosen=chosen))
    metrics = BinaryMetrics()
    metrics.update(outcome.scores, outcome.is_replaced, outcome.real)
    found = metrics.compute()
    assert found["recall"] == 1.0
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["accuracy"] == pytest.approx(6 / 7)
    assert found["positive_share"] == pytest.approx(2 / 7)
