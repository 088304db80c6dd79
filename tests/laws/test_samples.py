import csv
import re
from functools import cache
from itertools import islice
from statistics import mean

import pytest
from reader_cases import read_csv

from quorem.errors import UserError
from quorem.samples.reviews import LABELS, NEGATORS, _build_language, reviews, write_reviews

ROWS, FEW = 10_000, 5_000


@cache
def sample(rows=FEW):
    return list(reviews(rows))


def words_of(text):
    return re.findall(r"\w+", text.lower())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_reviews_and_another_seed_others():
    assert list(reviews(50, seed=3)) == list(reviews(50, seed=3))
    assert not set(reviews(50, seed=3)) & set(reviews(50, seed=4))


def test_a_review_does_not_depend_on_how_many_follow():
    assert list(reviews(20, seed=5)) == list(islice(reviews(1000, seed=5), 20))


@pytest.mark.slow
def test_all_seeds_share_one_language():
    first, second = ({word for text, _ in reviews(2000, seed=seed) for word in words_of(text)} for seed in (1, 2))
    assert len(first & second) > 0.5 * len(first)


@pytest.mark.slow
def test_the_vocabulary_is_huge_and_its_tail_long():
    counts = {}
    for text, _ in sample(ROWS):
        for word in words_of(text):
            counts[word] = counts.get(word, 0) + 1
    assert len(counts) >= 25_000
    assert sum(count <= 5 for count in counts.values()) > 10_000


def test_no_invented_word_has_two_meanings():
    language = _build_language()
    words = [word.lower() for words in (*language.topics, *language.adjectives) for word in words]
    assert len(set(words)) == len(words)


@pytest.mark.slow
def test_reviews_have_50_to_90_words_and_balanced_labels():
    lengths = sorted(len(text.split()) for text, _ in sample())
    assert 60 < mean(lengths) < 80
    assert lengths[FEW // 10] >= 50
    assert lengths[-FEW // 10] <= 90
    assert {label for _, label in sample()} == set(LABELS)
    assert abs(mean(label == "positive" for _, label in sample()) - 0.5) < 0.03  # 4 standard errors


@pytest.mark.slow
def test_the_number_of_negators_says_nothing_about_the_label():
    numbers = {label: [] for label in LABELS}
    for text, label in sample():
        numbers[label].append(sum(word in NEGATORS for word in words_of(text)))
    assert abs(mean(numbers["positive"]) - mean(numbers["negative"])) < 0.16  # 4 standard errors


def test_words_of_one_topic_meet_more_often_than_by_chance():
    topic_of = {word.lower(): index for index, words in enumerate(_build_language().topics) for word in words}
    topics = [{topic_of[word] for word in words_of(text) if word in topic_of} for text, _ in sample()[:200]]
    assert max(map(len, topics)) == 2


def score_by_rule():
    """Reads every opinion as it was planted: an adjective counts against its polarity behind a negator."""
    polarity = {word: side for words, side in zip(_build_language().adjectives, (-1, 1), strict=True) for word in words}
    right = 0.0
    for text, label in sample()[:4000]:
        votes = 0
        for sentence in text.split("."):
            words = words_of(sentence)
            if words[-2:-1] == ["and"] and words[-3] in polarity:
                assert polarity[words[-1]] == polarity[words[-3]]
                words = words[:-2]
            if words and words[-1] in polarity:
                votes += polarity[words[-1]] * (-1 if set(words[-4:-1]) & set(NEGATORS) else 1)
        right += 0.5 if votes == 0 else (votes > 0) == (label == "positive")
    return right / 4000


@pytest.mark.slow
def test_sentiment_needs_word_order():
    text_features = pytest.importorskip("sklearn.feature_extraction.text")
    linear = pytest.importorskip("sklearn.linear_model")
    texts, labels = zip(*sample(10_000), strict=True)

    def score(longest):
        vectorizer = text_features.TfidfVectorizer(sublinear_tf=True, min_df=2, ngram_range=(1, longest))
        train = vectorizer.fit_transform(texts[:8000])
        model = linear.LogisticRegression(C=10, max_iter=1000).fit(train, labels[:8000])
        return model.score(vectorizer.transform(texts[8000:]), labels[8000:])

    words, pairs, rule = score(1), score(2), score_by_rule()
    assert 0.6 < words < pairs - 0.03
    assert pairs < rule - 0.05
    assert rule < 0.99


def test_the_written_file_holds_the_reviews_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "sample.csv"
    write_reviews(path, rows=30, seed=2)
    documents = list(read_csv(path, text_column="review", label_column="sentiment"))
    assert [(document.text, document.label) for document in documents] == list(reviews(30, seed=2))
    assert list(path.parent.iterdir()) == [path]
    with path.open(newline="") as stream:
        assert next(csv.reader(stream)) == ["review", "sentiment"]


def test_an_existing_file_is_never_overwritten(tmp_path):
    path = tmp_path / "sample.csv"
    path.write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        write_reviews(path, rows=1)
    assert path.read_text() == "mine"


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space left"):
        write_reviews(tmp_path / "sample.csv", rows=1)
    assert list(tmp_path.iterdir()) == []


def test_numbers_out_of_range_are_refused_at_the_call(tmp_path):
    with pytest.raises(UserError, match="rows=0"):
        reviews(0)
    with pytest.raises(UserError, match="seed=-1"):
        write_reviews(tmp_path / "sample.csv", rows=1, seed=-1)
