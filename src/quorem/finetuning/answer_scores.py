"""Scores of answers, equal to those of SQuAD's official evaluations (v1.1 and v2.0), as shares from 0 to 1.

Source: Rajpurkar et al. 2016 (arXiv:1606.05250, section 6.1) and 2018 (arXiv:1806.03822). The two evaluations differ in
one case, answers of which nothing is left once they are normalised ("the"): v2.0 holds two of them for the same, and
v1.1's F1 does not. Rows of which some have no answer are scored as v2.0 does, others as v1.1.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """An answer in lower case without ASCII punctuation and English articles, with single spaces."""
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(PUNCTUATION)).split())


def pieces(answer: str, units: str) -> list[str]:
    """What F1 counts of a normalised answer: its words, or its characters without spaces."""
    return answer.split() if units == "words" else list("".join(answer.split()))


def score_answer(
    predicted: str, answers: Sequence[str], *, units: str = "words", v2: bool = False
) -> tuple[bool, float]:
    """Exact match and F1 of an answer, the best over all that are right.

    Args:
        predicted: "" for no answer.
        answers: all right ones; none where there is no answer.
        units: words or characters.
        v2: whether the rules of v2.0 hold; see above.
    """
    wanted = [normalized(each) for each in answers]
    if v2:
        wanted = [each for each in wanted if each] or [""]
    found = normalized(predicted)
    return any(found == each for each in wanted), max((_f1(found, each, units, v2) for each in wanted), default=0.0)


def _f1(found: str, wanted: str, units: str, v2: bool) -> float:
    one, other = pieces(found, units), pieces(wanted, units)
    if v2 and not (one and other):
        return float(one == other)
    shared = (Counter(one) & Counter(other)).total()
    if not shared:
        return 0.0
    precision, recall = shared / len(one), shared / len(other)
    return 2 * precision * recall / (precision + recall)


def score_answers(
    predicted: Sequence[str], answers: Sequence[Sequence[str]], *, units: str = "words"
) -> dict[str, Any]:
    """The mean of exact match and F1 over questions; where some have no answer, also of either kind alone.

    Args:
        predicted: an answer to each question, "" for none.
        answers: all right ones to each; none where there is no answer.
        units: words or characters.

    Returns:
        exact_match and f1 and, as v2.0's HasAns and NoAns, the same with rows of has_answer and no_answer.
    """
    lacking = np.array([not each for each in answers], bool)
    v2 = bool(lacking.any())
    pairs = zip(predicted, answers, strict=True)
    found = np.array([score_answer(one, each, units=units, v2=v2) for one, each in pairs], float).reshape(-1, 2)
    scores: dict[str, Any] = _means(found)
    if v2:
        for name, chosen in (("has_answer", ~lacking), ("no_answer", lacking)):
            if chosen.any():
                scores[name] = _means(found[chosen]) | {"rows": int(chosen.sum())}
    return scores


def _means(found: np.ndarray) -> dict[str, float]:
    exact, f1 = found.mean(0).tolist() if len(found) else (0.0, 0.0)
    return {"exact_match": exact, "f1": f1}


def best_threshold(
    predicted: Sequence[str], no_answer: Sequence[float], answers: Sequence[Sequence[str]], *, units: str = "words"
) -> float:
    """Above which score there should be no answer for F1 to be largest, as v2.0's --na-prob-file finds it.

    Args:
        predicted: the best answer to each question, if there were one.
        no_answer: how much speaks against it, float (n,); finite.
        answers: all right ones to each; none where there is no answer.
        units: words or characters.
    """
    scores = np.asarray(no_answer, float)
    order = np.argsort(scores, kind="stable")
    lacking = np.array([not each for each in answers], float)
    pairs = zip(predicted, answers, strict=True)
    with_answer = np.array([score_answer(one, each, units=units, v2=True)[1] for one, each in pairs])
    sums = np.concatenate([[0.0], np.cumsum((with_answer - lacking)[order])])  # of those up to it answered, to none
    ends = np.append(np.diff(scores[order]) > 0, True)  # rows with one score are answered together
    allowed = np.concatenate([[True], ends])
    best = int(np.argmax(np.where(allowed, sums, -np.inf)))
    return float(scores[order[best - 1]]) if best else float(scores.min()) - 1.0
