"""Linear branches that learn numbers and sets of labels, as they learn classes."""

import numpy as np
import pytest
import torch
from branch_cases import document, vectors
from sklearn.linear_model import Ridge

from quorem.finetuning.linear_fit import FOLDS, fit_branches, folds_of
from quorem.finetuning.ngram_fit import NgramFeatures
from quorem.finetuning.sif_fit import SifFeatures
from quorem.finetuning.targets import Classes, LabelSets, Numbers
from quorem.models.ngrams import NgramBranch
from quorem.models.sif import SifBranch
from quorem.tokenization.special import SPECIAL_IDS

VOCABULARY = 1_000


def rows_with(counts, seed=0):
    """Documents with so many words of each of several kinds, and others."""
    rng, rows = np.random.default_rng(seed), []
    for each in counts:
        words = [SPECIAL_IDS + kind + 10 * rng.integers(1, 99, number) for kind, number in enumerate(each)]
        rows.append(document(*rng.permutation(np.concatenate([*words, SPECIAL_IDS + 9 + 10 * rng.integers(1, 99, 6)]))))
    return rows


def both(num_labels):
    return [
        NgramFeatures(NgramBranch(longest=2, rows=4096, num_labels=num_labels), penalty=None),
        SifFeatures(SifBranch(vocab_size=VOCABULARY, num_labels=num_labels), vectors(VOCABULARY)),
    ]


def scores_of_models(branches, found, rows):
    for number, branch in enumerate(branches):
        branch.module.weight.data, branch.module.bias.data = found[f"{number}.weight"], found[f"{number}.bias"]
    return sum(torch.cat([branch.module(torch.tensor([row])) for row in rows]) for branch in branches)


@pytest.mark.slow
def test_numbers_are_learned_and_said_of_rows_that_were_not_seen():
    numbers = np.random.default_rng(0).integers(0, 8, 300)
    rows, target = rows_with([(each, 7 - each) for each in numbers]), Numbers((numbers - 3.5) / 2.3)
    branches = both(1)
    found = fit_branches(branches, rows, target)
    assert found["scores"].shape == (300, 1)
    assert np.corrcoef(found["scores"].squeeze(1), numbers)[0, 1] > 0.95
    new = np.random.default_rng(1).integers(0, 8, 60)
    said = scores_of_models(branches, found, rows_with([(each, 7 - each) for each in new], seed=1)).squeeze(1)
    assert np.corrcoef(said, new)[0, 1] > 0.95
    assert np.abs(said.numpy() * 2.3 + 3.5 - new).mean() < 1  # on the scale of the numbers


def test_numbers_by_vectors_are_those_of_ridge_regression():
    numbers = np.random.default_rng(0).normal(size=120)
    rows = rows_with([(3, 3)] * 120)
    branch = SifFeatures(SifBranch(vocab_size=VOCABULARY, num_labels=1), vectors(VOCABULARY))
    features = branch.features(rows)
    weight, bias = branch.regressions(features, Numbers(numbers), 30.0)
    scale = features.std(0).mean()
    expected = Ridge(alpha=30.0 * scale**2).fit(features.astype(np.float64), numbers)
    np.testing.assert_allclose(features @ weight + bias, expected.predict(features)[:, None], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [2, 3])
def test_labels_do_not_exclude_each_other(num_labels):
    indicators = np.random.default_rng(0).random((300, num_labels)) < 0.5
    branches, target = both(num_labels), LabelSets(indicators)
    found = fit_branches(branches, rows_with(3 * indicators.astype(int)), target)
    assert ((found["scores"].numpy() > 0) == indicators).mean() > 0.95
    new = np.random.default_rng(1).random((60, num_labels)) < 0.5
    said = scores_of_models(branches, found, rows_with(3 * new.astype(int), seed=1)).numpy() > 0
    assert (said == new).mean() > 0.95
    assert (said.all(1) == new.all(1)).mean() > 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    [
        Classes([0, 1, 1, 2] * 25, 4),
        LabelSets(np.arange(100)[:, None] % [2, 7, 30] == 0),
        LabelSets(np.zeros((100, 2), bool)),
        Numbers(np.zeros(100)),
        Numbers(np.repeat([0.0, 1e6], 50)),
        Numbers(np.zeros(1)),
        LabelSets(np.ones((1, 2), bool)),
        Classes([1], 2),
    ],
    ids=["classes", "labels", "no labels", "one number", "far numbers", "a row", "a row of labels", "a row of a class"],
)
def test_whatever_the_labels_scores_are_finite_and_rows_without_words_have_some(target):
    rows = rows_with([(2, 1)] * len(target))
    rows[:2] = [document(), document()[:2]][: len(rows)]
    found = fit_branches(both(target.num_labels), rows, target)
    assert all(part.isfinite().all() for part in found.values())
    assert target.loss(found["scores"].double()).isfinite()


def test_every_fold_has_its_share_of_rare_labels():
    indicators = np.zeros((400, 3), bool)
    indicators[:, 0] = True
    indicators[::50, 1] = True  # eight rows
    folds = folds_of(LabelSets(indicators))
    assert np.bincount(folds[indicators[:, 1]]).tolist() == [2] * FOLDS
