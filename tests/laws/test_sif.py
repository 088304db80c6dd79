"""The SIF branch: a linear model of mean token vectors, kept as a score for each token."""

import numpy as np
import pytest
import torch
from branch_cases import CLS, PAD, UNK, document, vectors
from torch import nn

from quorem.finetuning.linear_fit import fit_branches
from quorem.finetuning.ngram_fit import NgramFeatures
from quorem.finetuning.sif_fit import SifFeatures
from quorem.finetuning.targets import Classes
from quorem.models.ngrams import NgramBranch
from quorem.models.sif import SMOOTHING, SifBranch, sif_weights
from quorem.tokenization.special import SPECIAL_IDS

VOCABULARY = 300


def rows_of_topics(number, num_labels=2, *, seed=0, words=12):
    """Each class has words of its own, of which a row has a few among others; vectors say which class a word is of."""
    rng = np.random.default_rng(seed)
    labels = [i % num_labels for i in range(number)]
    own = [np.arange(SPECIAL_IDS + label, VOCABULARY, 10) for label in range(num_labels)]
    others = np.arange(SPECIAL_IDS + 9, VOCABULARY, 10)
    rows = [document(*rng.permutation([*rng.choice(own[label], words // 3), *rng.choice(others, words)]))
            for label in labels]  # fmt: skip
    return rows, labels


def fitted(rows, labels, *, num_labels=2, weights=None):
    branch, table = (
        SifBranch(vocab_size=VOCABULARY, num_labels=num_labels, one_column=num_labels == 2),
        vectors(VOCABULARY),
    )
    found = fit_branches([SifFeatures(branch, table)], rows, Classes(labels, num_labels, weights))
    branch.weight.data, branch.bias.data = found["0.weight"], found["0.bias"]
    return branch, table, found["scores"]


def test_weights_are_those_of_the_paper_by_zipfs_law():
    ids = torch.tensor([PAD, UNK, SPECIAL_IDS, SPECIAL_IDS + 99])
    expected = [0, 0, *(SMOOTHING / (SMOOTHING + 1 / (rank * np.log(1000))) for rank in (1, 100))]
    torch.testing.assert_close(sif_weights(ids, 1000), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.parametrize("num_labels", [2, 3])
def test_scores_of_tokens_are_a_linear_model_of_the_mean(num_labels):
    rows, labels = rows_of_topics(90, num_labels)
    branch, table, _ = fitted(rows, labels, num_labels=num_labels)
    means = torch.from_numpy(SifFeatures(branch, table).features(rows))
    weight = torch.linalg.lstsq(table.weight.data.double(), branch.weight.data.double()).solution.float()
    torch.testing.assert_close(table.weight.data @ weight, branch.weight.data, atol=1e-4, rtol=1e-4)
    columns = means @ weight + branch.bias
    expected = torch.cat([-columns / 2, columns / 2], 1) if num_labels == 2 else columns
    found = torch.cat([branch(torch.tensor([row])) for row in rows])
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_words_that_no_row_had_are_understood_by_their_vectors(num_labels):
    rows, labels = rows_of_topics(300, num_labels, words=30)

    def is_new(token):
        return token >= SPECIAL_IDS and (token - SPECIAL_IDS) % 10 < num_labels and token > VOCABULARY / 2

    training = [[token for token in row if not is_new(token)] for row in rows[:200]]
    branch, *_ = fitted(training, labels[:200], num_labels=num_labels)
    known = {token for row in training for token in row if (token - SPECIAL_IDS) % 10 < num_labels}
    judged = [[token for token in row if token not in known] for row in rows[200:]]
    found = torch.cat([branch(torch.tensor([row])) for row in judged]).argmax(1)
    assert (found == torch.tensor(labels[200:])).float().mean() > 0.9


def test_padding_and_special_tokens_change_no_score():
    rows, labels = rows_of_topics(60)
    branch, *_ = fitted(rows, labels)
    alone = torch.cat([branch(torch.tensor([row])) for row in rows[:8]])
    for left in (False, True):
        padded = [[PAD] * (60 - len(row)) * left + row + [PAD] * (60 - len(row)) * (not left) for row in rows[:8]]
        torch.testing.assert_close(branch(torch.tensor(padded)), alone)
    nothing = branch(torch.tensor([document(), document()[:2], [CLS, UNK]]))
    columns = branch.bias.data
    torch.testing.assert_close(nothing, torch.cat([-columns / 2, columns / 2]).expand(3, 2))


def test_scores_of_training_rows_have_not_seen_their_labels():
    """In as many directions as there are rows, noise is learned by heart, and says nothing of other rows."""
    rng, table = np.random.default_rng(0), nn.Embedding(VOCABULARY, 64)
    table.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    rows = [document(*rng.integers(SPECIAL_IDS, VOCABULARY, 10)) for _ in range(60)]
    labels = torch.from_numpy(rng.integers(0, 2, 60))
    sif = SifFeatures(SifBranch(vocab_size=VOCABULARY, num_labels=2, one_column=True), table)
    sif.penalties = (1.0,)
    found = fit_branches([sif], rows, Classes(labels.tolist(), 2))
    sif.module.weight.data, sif.module.bias.data = found["0.weight"], found["0.bias"]
    seen = torch.cat([sif.module(torch.tensor([row])) for row in rows])
    assert (seen.argmax(1) == labels).float().mean() > 0.95
    assert (found["scores"].argmax(1) == labels).float().mean() < 0.7


@pytest.mark.parametrize("number", [1, 3, 7, 99])
def test_rows_that_read_alike_say_nothing_but_how_frequent_classes_are(number):
    rows, labels = [document(7, 8, 9)] * number, [int(place % 4 == 0) for place in range(number)]
    branch, _, scores = fitted(rows, labels)
    assert branch.weight.abs().max() < 1
    assert scores.abs().max() < 10


def test_classes_without_rows_and_rows_without_words_have_finite_scores():
    rows, labels = rows_of_topics(40)
    rows[0], rows[1] = document(), document(UNK)
    branch, _, scores = fitted(rows, labels, num_labels=3)
    assert branch.weight.isfinite().all()
    assert scores.isfinite().all()
    assert (scores.argmax(1) < 2).all()


@pytest.mark.slow
def test_two_branches_know_what_either_does():
    """Of some rows the order of a pair says the class, of the others words that are too rare for n-grams."""
    rng, size, rows = np.random.default_rng(0), 40_000, []
    labels = [place % 2 for place in range(400)]
    for place, label in enumerate(labels):
        rare = SPECIAL_IDS + 10 * rng.integers(100, 3_000, 3) + label
        pair = [30, 31] if label else [31, 30]
        rows.append(document(*(pair if place % 4 < 2 else rare), *rng.integers(40, 60, 5)))
    ngrams = NgramFeatures(NgramBranch(longest=2, rows=4096, num_labels=2, one_column=True), penalty=0.003)
    sif = SifFeatures(SifBranch(vocab_size=size, num_labels=2, one_column=True), vectors(size))
    right = [
        (fit_branches(some, rows, Classes(labels, 2))["scores"].argmax(1) == torch.tensor(labels)).float().mean()
        for some in ([ngrams], [sif], [ngrams, sif])
    ]
    assert max(right[:2]) < 0.85
    assert right[2] > 0.93
