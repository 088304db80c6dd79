"""The metrics against scikit-learn and against hand-made logits."""

import numpy as np
import pytest
import torch

from quorem.training.metrics import BinaryMetrics, entropy


def make_batch(seed: int, shift: float = -2.0, spread: float = 2.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits like a discriminator's: about 15% positives, most logits far below zero, a tenth of the tokens masked."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.rand(16, 128, generator=generator) < 0.15
    logits = spread * torch.randn(16, 128, generator=generator) + shift + 2.5 * labels
    return logits, labels, torch.rand(16, 128, generator=generator) < 0.9


@pytest.mark.parametrize("shift", [-6.0, -2.0, 0.0, 3.0])
def test_binary_metrics_equal_sklearn_over_several_batches(shift):
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    batches = [make_batch(seed, shift) for seed in range(4)]
    metrics = BinaryMetrics()
    for batch in batches:
        metrics.update(*batch)
    scores = metrics.compute()

    logits = torch.cat([logits[mask] for logits, _, mask in batches]).numpy()
    labels = torch.cat([labels[mask] for _, labels, mask in batches]).numpy()
    assert scores["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(labels, logits), abs=2e-4)
    assert scores["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(labels, logits > 0), abs=1e-12)
    assert scores["precision"] == pytest.approx(sklearn_metrics.precision_score(labels, logits > 0), abs=1e-12)
    assert scores["recall"] == pytest.approx(sklearn_metrics.recall_score(labels, logits > 0), abs=1e-12)
    assert scores["positive_share"] == pytest.approx(labels.mean(), abs=1e-12)


def test_the_threshold_is_logit_zero_not_a_half():
    logits = torch.tensor([1e-30, 0.0, -1e-30, 0.3, 0.6, -0.2])
    labels = torch.tensor([True, True, False, True, False, False])
    metrics = BinaryMetrics()
    metrics.update(logits, labels, torch.ones(6, dtype=torch.bool))
    scores = metrics.compute()
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["recall"] == pytest.approx(2 / 3)


def test_masked_tokens_and_reset_leave_no_trace():
    logits, labels, mask = make_batch(0)
    metrics, expected = BinaryMetrics(), BinaryMetrics()
    metrics.update(logits, ~labels, mask)
    metrics.reset()
    assert metrics.compute()["accuracy"] is None
    metrics.update(torch.where(mask, logits, 50.0), torch.where(mask, labels, True), mask)
    expected.update(logits[mask], labels[mask], torch.ones(int(mask.sum()), dtype=torch.bool))
    assert metrics.compute() == expected.compute()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_auc_of_separated_reversed_and_equal_logits(sign):
    labels = torch.tensor([True, True, False, False])
    everything = torch.ones(4, dtype=torch.bool)
    metrics = BinaryMetrics()
    metrics.update(sign * torch.tensor([float("inf"), -5.0, -5.2, -float("inf")]), labels, everything)
    assert metrics.compute()["auc"] == (1.0 if sign > 0 else 0.0)
    metrics.reset()
    metrics.update(torch.full((4,), sign), labels, everything)
    assert metrics.compute()["auc"] == 0.5


def test_undefined_scores_are_none_and_a_nan_logit_stays_in_range():
    metrics = BinaryMetrics()
    metrics.update(torch.tensor([-1.0, float("nan")]), torch.tensor([False, False]), torch.tensor([True, True]))
    assert metrics.compute() == {
        "accuracy": 1.0,
        "precision": None,
        "recall": None,
        "auc": None,
        "positive_share": 0.0,
        "base_rate_entropy": 0.0,
    }
    assert set(BinaryMetrics().compute().values()) == {None}


def test_half_precision_logits_are_counted_like_float32():
    logits, labels, mask = make_batch(3)
    rounded = logits.to(torch.bfloat16)
    half, full = BinaryMetrics(), BinaryMetrics()
    half.update(rounded, labels, mask)
    full.update(rounded.float(), labels, mask)
    assert torch.equal(half.counts, full.counts)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_update_never_waits_for_the_gpu():
    batch = [tensor.cuda() for tensor in make_batch(4)]
    metrics, expected = BinaryMetrics(), BinaryMetrics()
    metrics.update(*batch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics.update(*batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected.update(*make_batch(4))
    assert metrics.compute()["accuracy"] == expected.compute()["accuracy"]


def test_summed_counts_equal_one_metric_over_both_parts():
    first, second, both = BinaryMetrics(), BinaryMetrics(), BinaryMetrics()
    first.update(*make_batch(1))
    second.update(*make_batch(2))
    both.update(*make_batch(1))
    both.update(*make_batch(2))
    first.counts += second.counts
    assert first.compute() == both.compute()


def test_base_rate_entropy_is_the_loss_of_a_constant_discriminator():
    labels = torch.zeros(1000, dtype=torch.bool)
    labels[:137] = True
    metrics = BinaryMetrics()
    metrics.update(torch.zeros(1000), labels, torch.ones(1000, dtype=torch.bool))
    constant = torch.full((1000,), 0.137, dtype=torch.float64).logit()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(constant, labels.double())
    assert metrics.compute()["base_rate_entropy"] == pytest.approx(float(loss), abs=1e-12)


def test_entropy_of_known_histograms():
    assert entropy([5, 5, 0, 5, 5]) == pytest.approx(np.log(4), abs=1e-15)
    assert entropy(torch.tensor([3, 1])) == pytest.approx(-0.75 * np.log(0.75) - 0.25 * np.log(0.25), abs=1e-15)
    assert entropy(np.full((1000, 1000), 7)) == pytest.approx(np.log(1e6), abs=1e-9)
    assert entropy([9]) == entropy([0, 0]) == entropy([]) == 0.0
