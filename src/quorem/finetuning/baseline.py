"""What there is to beat on labelled texts: a linear model on TF-IDF of the same training rows, by scikit-learn.

Texts are read whole, those of a pair one after the other. Words and pairs of words are counted, or what the texts ask
for instead (`analysis_of`). Classes and labels get a logistic regression, numbers a ridge regression. Nothing is tuned,
nothing is random but which rows are taken where there are too many, and nothing of the held-out rows is counted.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_ROWS = 50_000  # training rows
MOST_CHARACTERS = 2**26  # of training texts: 50,000 reviews, half a minute
MOST_FEATURES = 2**20  # n-grams kept, the most frequent
MOST_WEIGHTS = 2**23  # n-grams times classes, of which the solver holds 20 copies
FEW_ROWS = 1_000  # with fewer, n-grams that one row has are kept too
LOOKED_AT = 1_000  # texts
INVERSE_PENALTY = 10.0  # C of the logistic regressions
EVENT = re.compile(r"\w+[_:=]-?[\w.:/#-]*\d[\w.:/#-]*|[^\W\d_]?[\W\d_]+")
"""A token that is no word: Pitch_60, price:12, or at most one letter before digits and signs: 60, n60, 4/4."""
BY_CHARACTERS = re.compile(
    "[\u1100-\u11ff\u3130-\u318f\uac00-\ud7af\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Letters of Thai, Lao, Tibetan, Burmese, Khmer, Japanese and Chinese, which are written without spaces, and of Korean,
whose words have their particles at their ends: NSMC 0.8782 by characters and 0.8190 by words (docs/results.md)."""
LONGEST_MEAN = 15  # characters between spaces; words of German have six


@dataclass(frozen=True)
class Analysis:
    """What of texts is counted.

    Attributes:
        name: for people.
        settings: of scikit-learn's TfidfVectorizer.
    """

    name: str
    settings: dict[str, Any]


WORDS = Analysis("words and pairs", {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"})
CHARACTERS = Analysis("1 to 5 characters", {"analyzer": "char", "ngram_range": (1, 5)})
TOKENS = Analysis("1 to 3 tokens", {"ngram_range": (1, 3), "token_pattern": r"[^\s,;|]+", "lowercase": False})


def analysis_of(texts: Sequence[str]) -> Analysis:
    """What to count of texts, by the first of them.

    TOKENS where most words are ids or events, as in music; CHARACTERS where a quarter of the letters are
    BY_CHARACTERS, or words have more than 15 characters on average; else WORDS.
    """
    some = texts[:LOOKED_AT]
    words = [word for text in some for word in text.split()]
    if sum(1 for word in words if EVENT.fullmatch(word)) > len(words) / 2:
        return TOKENS
    letters = sum(len(word) for word in words)
    unspaced = sum(len(BY_CHARACTERS.findall(text)) for text in some)
    return CHARACTERS if unspaced > letters / 4 or letters > LONGEST_MEAN * len(words) else WORDS


@dataclass(frozen=True)
class Baseline:
    """A linear model's features of rows.

    Attributes:
        name: what it is, for people.
        training: sparse float64 (rows, n-grams) of those that are learned from.
        labels: what they are, one for each.
        held_out: the same features of those that are judged.
    """

    name: str
    training: Any
    labels: list[Any]
    held_out: Any

    @classmethod
    def of(
        cls, texts: Sequence[str], labels: Sequence[Any], judged: Sequence[str], *, columns: int, seed: int
    ) -> "Baseline | None":
        """Count the n-grams of rows.

        Args:
            texts: of the training rows, of which at most MOST_ROWS rows and about MOST_CHARACTERS are read.
            labels: theirs.
            judged: texts of the held-out rows, all of which are read.
            columns: how many numbers a model gives for a row: its weights are that many times the n-grams.
            seed: of the rows that are taken.

        Returns:
            None if no n-gram is left to count.
        """
        from sklearn.feature_extraction.text import TfidfVectorizer

        chosen = sample([len(text) for text in texts], seed=seed)
        some = [texts[row] for row in chosen]
        analysis = analysis_of(some)
        vectorizer = TfidfVectorizer(
            sublinear_tf=True,
            min_df=2 if len(some) >= FEW_ROWS else 1,
            max_features=min(MOST_FEATURES, max(1, MOST_WEIGHTS // columns)),
            **analysis.settings,
        )
        try:
            training = vectorizer.fit_transform(some)
        except ValueError:  # scikit-learn's word for an empty vocabulary
            return None
        found = [labels[row] for row in chosen]
        return cls(f"TF-IDF of {analysis.name}", training, found, vectorizer.transform(judged))

    def classes(self, number: int, *, class_weight: str | None = None) -> np.ndarray:
        """Probabilities float64 (judged rows, number) of classes 0 to number - 1, by logistic regression."""
        shares = np.zeros((self.held_out.shape[0], number))
        there = np.unique(self.labels)
        if len(there) == 1:
            shares[:, there] = 1.0
            return shares
        shares[:, there] = _fitted(self.training, self.labels, class_weight=class_weight).predict_proba(self.held_out)
        return shares

    def several(self, number: int) -> np.ndarray:
        """Probabilities float64 (judged rows, number) of labels of which a row has any, by a model for each."""
        shares = np.zeros((self.held_out.shape[0], number))
        for label in range(number):
            has = np.array([label in some for some in self.labels])
            if has.all() or not has.any():
                shares[:, label] = has[0]
            else:
                shares[:, label] = _fitted(self.training, has).predict_proba(self.held_out)[:, 1]
        return shares

    def numbers(self) -> np.ndarray:
        """A number float64 for each judged row, by ridge regression."""
        from sklearn.linear_model import Ridge

        found: np.ndarray = Ridge(solver="sparse_cg").fit(self.training, self.labels).predict(self.held_out)
        return found


def sample(lengths: Sequence[int], *, seed: int) -> np.ndarray:
    """Which rows are read, int64, rising: all, or as many drawn at random as the two limits allow.

    Args:
        lengths: characters of each.
        seed: of the draw.
    """
    order = np.random.default_rng(seed).permutation(len(lengths))
    within = np.cumsum(np.asarray(lengths, np.int64)[order]) <= MOST_CHARACTERS
    return np.sort(order[: max(1, min(MOST_ROWS, int(within.sum())))])


def _fitted(features: Any, labels: Any, **how: Any) -> Any:
    """A logistic regression; what is left to do after its last step does not matter here."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", message="The number of unique classes")  # classes all the same
        return LogisticRegression(C=INVERSE_PENALTY, **how).fit(features, labels)
