"""The n-gram branch against counting by hand."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from quorem.embeddings.hashing import hashed
from quorem.finetuning.linear_fit import KEPT, fit_branches, install_branches
from quorem.finetuning.ngram_fit import PENALTIES, NgramFeatures
from quorem.finetuning.targets import Classes
from quorem.models.ngrams import KEYS, NOTHING, NgramBranch, ngram_keys
from quorem.tokenization.special import SPECIAL_IDS

CLS, SEP, PAD, UNK = 2, 3, 0, 1


def fit_ngrams(branch, rows, labels, *, penalty, weights=None):
    """Its table, its bias, and the scores of the rows out of fold."""
    target = Classes(labels, branch.num_labels, weights)
    found = fit_branches([NgramFeatures(branch, penalty=penalty)], rows, target)
    return SimpleNamespace(weight=found["0.weight"], bias=found["0.bias"], scores=found["scores"])


def document(*ids):
    return [CLS, *ids, SEP]


def by_hand(row, longest):
    """The distinct n-grams of a row that hold no special token."""
    spans = [tuple(row[i : i + n]) for n in range(1, longest + 1) for i in range(len(row) - n + 1)]
    return {span for span in spans if min(span) >= SPECIAL_IDS}


def key(span):
    found = hashed(torch.tensor(span[0]), KEYS)
    for token in span[1:]:
        found = hashed(found + token, KEYS)
    return int(found)


def random_rows(number, *, seed=0, vocabulary=12, longest=40):
    rng, known = random.Random(seed), range(SPECIAL_IDS, SPECIAL_IDS + vocabulary)
    return [document(*(rng.choice([UNK, *known]) for _ in range(rng.randrange(longest)))) for _ in range(number)]


def branch_with_weights(longest, *, rows=97, num_labels=3):
    branch = NgramBranch(longest=longest, rows=rows, num_labels=num_labels, one_column=num_labels == 2)
    generator = torch.Generator().manual_seed(0)
    for parameter in branch.parameters():
        parameter.data.normal_(generator=generator)
    return branch


@pytest.mark.slow
@pytest.mark.parametrize("longest", [1, 2, 3, 5])
def test_keys_are_those_of_the_distinct_ngrams(longest):
    for row in random_rows(50):
        keys = ngram_keys(torch.tensor([row]), longest)[0]
        spans = by_hand(row, longest)
        assert keys[keys != NOTHING].tolist() == sorted(map(key, spans))
        assert len(set(map(key, spans))) == len(spans)


def test_order_and_length_tell_ngrams_apart():
    spans = [(5,), (6,), (5, 5), (5, 6), (6, 5), (5, 5, 6), (5, 6, 5), (6, 5, 5)]
    assert len(set(map(key, spans))) == len(spans)


@pytest.mark.parametrize("num_labels", [2, 3])
def test_scores_are_sums_over_distinct_ngrams(num_labels):
    branch = branch_with_weights(2, num_labels=num_labels)
    for row in random_rows(50):
        spans = by_hand(row, 2)
        sums = sum((branch.weight[key(span) % 97] for span in spans), torch.zeros(branch.weight.shape[1]))
        columns = sums / max(1, len(spans)) ** 0.5 + branch.bias
        expected = torch.cat([-columns / 2, columns / 2]) if num_labels == 2 else columns
        torch.testing.assert_close(branch(torch.tensor([row]))[0], expected)


def test_padding_on_either_side_changes_no_score():
    branch, rows = branch_with_weights(3), random_rows(8)
    alone = torch.cat([branch(torch.tensor([row])) for row in rows])
    for left in (False, True):
        padded = [[PAD] * (60 - len(row)) * left + row + [PAD] * (60 - len(row)) * (not left) for row in rows]
        torch.testing.assert_close(branch(torch.tensor(padded)), alone)


def labelled(number, num_labels=2, *, seed=1):
    """Rows whose class is which of some pairs they hold; single tokens say nothing."""
    rng, rows, labels = random.Random(seed), [], []
    for i in range(number):
        label = i % num_labels
        others = [rng.randrange(20, 40) for _ in range(12)]
        pair = [(5, 6, 7), (6, 5, 7), (5, 7, 6)][label]
        rows.append(document(*others[:6], *pair, *others[6:]))
        labels.append(label)
    return rows, labels


@pytest.mark.slow
@pytest.mark.parametrize("num_labels", [2, 3])
def test_pairs_are_learned_that_single_tokens_do_not_tell(num_labels):
    rows, labels = labelled(240, num_labels)
    new_rows, new_labels = labelled(90, num_labels, seed=2)
    accuracy = {}
    for longest in (1, 2):
        branch = NgramBranch(longest=longest, rows=4096, num_labels=num_labels, one_column=num_labels == 2)
        fit = fit_ngrams(branch, rows, labels, penalty=0.003)
        branch.weight.data, branch.bias.data = fit.weight, fit.bias
        found = torch.cat([branch(torch.tensor([row])) for row in new_rows]).argmax(1)
        accuracy[longest] = float((found == torch.tensor(new_labels)).float().mean())
    assert accuracy[2] > 0.98
    assert accuracy[1] < 0.9


@pytest.mark.slow
def test_scores_of_training_rows_have_not_seen_their_labels():
    """Each row repeats tokens of its own, so that a table that has seen it knows its class; no other row says it."""
    rng = np.random.default_rng(0)
    rows = [document(*(rng.integers(5, 400, 30))) for _ in range(200)]
    labels = rng.integers(0, 2, 200).tolist()
    branch = NgramBranch(longest=2, rows=2**16, num_labels=2, one_column=True)
    fit = fit_ngrams(branch, rows, labels, penalty=0.003)
    branch.weight.data, branch.bias.data = fit.weight, fit.bias
    seen = torch.cat([branch(torch.tensor([row])) for row in rows]).argmax(1)
    assert (seen == torch.tensor(labels)).float().mean() > 0.95
    assert (fit.scores.argmax(1) == torch.tensor(labels)).float().mean() < 0.6


def test_a_class_without_rows_and_rows_without_ngrams_have_finite_scores():
    rows, labels = labelled(40)
    rows[0], rows[1] = document(), document(UNK)
    fit = fit_ngrams(NgramBranch(longest=2, rows=512, num_labels=3), rows, labels, penalty=0.003)
    assert fit.scores.shape == (40, 3)
    assert all(part.isfinite().all() for part in vars(fit).values())
    assert (fit.scores.argmax(1) < 2).all()


@pytest.mark.slow
def test_a_fit_is_kept_for_the_next_start_and_made_again_where_it_is_damaged(tmp_path, monkeypatch):
    rows, labels = labelled(40)
    modules = [NgramBranch(longest=2, rows=512, num_labels=2, one_column=True) for _ in range(2)]
    first, second = (NgramFeatures(module, penalty=0.01) for module in modules)
    target, how = Classes(labels, 2), {"folder": tmp_path / "state"}
    scores = install_branches([first], rows, target, **how)
    assert modules[0].weight.count_nonzero() > 0
    with monkeypatch.context() as patch:
        patch.setattr("quorem.finetuning.linear_fit.fit_branches", None)  # is not called
        assert torch.equal(install_branches([second], rows, target, **how), scores)
    assert torch.equal(modules[0].weight, modules[1].weight)
    (tmp_path / "state" / KEPT).write_bytes(b"nothing")
    assert torch.equal(install_branches([second], rows, target, **how), scores)


@pytest.mark.slow
def test_a_penalty_that_is_not_given_is_the_best_of_those_there_are():
    """Rows of noise with a word or two that tell: the weakest penalty is not the best."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300).tolist()
    rows = [document(*rng.integers(10, 60, 20), *([5 + label] if rng.random() < 0.6 else [])) for label in labels]
    branch = NgramBranch(longest=2, rows=4096, num_labels=2, one_column=True)
    free = fit_ngrams(branch, rows, labels, penalty=None)
    same = [p for p in PENALTIES if torch.equal(fit_ngrams(branch, rows, labels, penalty=p).weight, free.weight)]
    assert len(same) == 1
    assert same[0] > PENALTIES[0]


@pytest.mark.slow
def test_weights_of_classes_raise_the_rare_one():
    """Whose rows are no longer taken for the common class."""
    rng = random.Random(0)
    labels = [int(rng.random() < 0.1) for _ in range(400)]
    rows = [document(*(rng.choice(range(5, 13)) + 2 * label for _ in range(6))) for label in labels]
    branch, weights = (
        NgramBranch(longest=1, rows=64, num_labels=2, one_column=True),
        torch.tensor([400 / 2 / 360, 400 / 2 / 40]),
    )
    shares = [
        fit_ngrams(branch, rows, labels, penalty=0.1, weights=given).scores.softmax(-1)[:, 1].mean()
        for given in (None, weights)
    ]
    assert shares[0] == pytest.approx(np.mean(labels), abs=0.05)
    assert shares[1] > 1.3 * shares[0]
