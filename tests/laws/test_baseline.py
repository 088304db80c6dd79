"""The linear baseline against scikit-learn's own pipeline on the same rows, and what of texts it counts."""

import random

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline

from quorem.finetuning import baseline as module
from quorem.finetuning.baseline import CHARACTERS, TOKENS, WORDS, Baseline, analysis_of, sample

WORDS_OF = [[f"{group}{letter}" for letter in "abcdefgh"] for group in ("la", "mo", "ru")]


def rows(number, seed):
    chance = random.Random(seed)
    labels = [chance.randrange(3) for _ in range(number)]
    every = [word for words in WORDS_OF for word in words]
    return [
        " ".join(chance.choice(WORDS_OF[label] if chance.random() < 0.4 else every) for _ in range(6))
        for label in labels
    ], labels


def pipeline(model):
    return make_pipeline(
        TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b"),
        model,
    )


def test_classes_are_those_of_scikit_learn():
    (texts, labels), (judged, truth) = rows(200, 0), rows(100, 1)
    found = Baseline.of(texts, labels, judged, columns=3, seed=0)
    assert found.name == "TF-IDF of words and pairs"
    expected = pipeline(LogisticRegression(C=10)).fit(texts, labels).predict_proba(judged)
    np.testing.assert_allclose(found.classes(3), expected, atol=1e-6)
    assert 0.5 < np.mean(found.classes(3).argmax(1) == truth) < 1
    balanced = pipeline(LogisticRegression(C=10, class_weight="balanced")).fit(texts, labels).predict_proba(judged)
    np.testing.assert_allclose(found.classes(3, class_weight="balanced"), balanced, atol=1e-6)


def test_a_class_without_training_rows_has_probability_0():
    texts, labels = rows(60, 0)
    found = Baseline.of(texts, [2 * label for label in labels], texts, columns=6, seed=0).classes(6)
    assert found.shape == (60, 6)
    assert not found[:, [1, 3, 5]].any()
    one = Baseline.of(texts, [1] * 60, texts, columns=2, seed=0).classes(2)
    assert (one == [0.0, 1.0]).all()


def test_labels_are_a_model_each():
    (texts, labels), (judged, _) = rows(200, 0), rows(50, 1)
    several = [[3, label] for label in labels]
    found = Baseline.of(texts, several, judged, columns=5, seed=0).several(5)
    for label in range(3):
        model = pipeline(LogisticRegression(C=10)).fit(texts, [label in some for some in several])
        np.testing.assert_allclose(found[:, label], model.predict_proba(judged)[:, 1], atol=1e-6)
    assert (found[:, 3] == 1).all()
    assert (found[:, 4] == 0).all()


def test_numbers_are_a_ridge_regressions():
    (texts, labels), (judged, _) = rows(200, 0), rows(50, 1)
    found = Baseline.of(texts, labels, judged, columns=1, seed=0).numbers()
    expected = pipeline(Ridge(solver="sparse_cg", tol=1e-8)).fit(texts, labels).predict(judged)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_nothing_of_the_held_out_rows_is_counted():
    texts, labels = rows(100, 0)
    judged = ["xylophone zither", texts[0] + " xylophone"]
    found, alone = (Baseline.of(texts, labels, some, columns=3, seed=0) for some in (judged, [texts[0]]))
    assert (found.training != alone.training).nnz == 0
    assert found.held_out[0].nnz == 0
    assert (found.held_out[1] != alone.held_out[0]).nnz == 0


@pytest.mark.parametrize(
    ("text", "analysis"),
    [
        ("a film that nobody will forget, 10/10", WORDS),
        ("이 영화는 정말 재미있었다", CHARACTERS),
        ("Donaudampfschifffahrt ist ein Wort", WORDS),
        ("ภาพยนตร์เรื่องนี้ดีมาก สนุกจริงๆ", CHARACTERS),
        ("这部 电影 很好看", CHARACTERS),
        ("この映画はとても面白かった", CHARACTERS),
        ("acetylsalicylicacid", CHARACTERS),
        ("Pitch_60 Velocity_100 Duration_1.0.8", TOKENS),
        ("n60 v80 d4 n62", TOKENS),
        ("60 1204 7 60", TOKENS),
        ("12,7,95", TOKENS),
    ],
)
def test_what_is_counted_goes_by_the_texts(text, analysis):
    assert analysis_of([text] * 3) is analysis


def test_tokens_are_whole_and_keep_their_case():
    found = Baseline.of(["Pitch_60 pitch_60 4/4", "Pitch_61 4/4"], [0, 1], ["Pitch_61"], columns=2, seed=0)
    assert found.training.shape == (2, 8)
    assert found.held_out.nnz == 1
    assert Baseline.of(["12,7,95", "12,8"], [0, 1], ["7"], columns=2, seed=0).training.shape == (2, 8)


def test_rare_ngrams_of_many_rows_are_left_out(monkeypatch):
    monkeypatch.setattr(module, "FEW_ROWS", 4)
    once = ["ab cd", "ab ef", "gh ij", "kl mn"]
    assert Baseline.of(once, [0, 1, 0, 1], once, columns=2, seed=0).training.shape[1] == 1
    assert Baseline.of(["ab", "cd", "ef", "gh"], [0, 1, 0, 1], once, columns=2, seed=0) is None


def test_rows_and_characters_are_limited(monkeypatch):
    lengths = np.full(1000, 10)
    assert len(sample(lengths, seed=0)) == 1000
    monkeypatch.setattr(module, "MOST_ROWS", 300)
    some = sample(lengths, seed=0)
    assert len(some) == len(set(some.tolist())) == 300
    assert (np.diff(some) > 0).all()
    assert (sample(lengths, seed=0) == some).all()
    assert (sample(lengths, seed=1) != some).any()
    monkeypatch.setattr(module, "MOST_CHARACTERS", 1000)
    assert len(sample(lengths, seed=0)) == 100
    assert len(sample([5000, 5000], seed=0)) == 1


def test_weights_are_limited(monkeypatch):
    texts, labels = rows(100, 0)
    monkeypatch.setattr(module, "MOST_WEIGHTS", 30)
    assert Baseline.of(texts, labels, texts, columns=3, seed=0).training.shape[1] == 10
