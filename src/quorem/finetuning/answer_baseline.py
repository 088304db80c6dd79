"""A guess at answers without a model: the span that stands nearest to the question's words and has none of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from quorem.finetuning.rows import Examples

NEAR = 12  # tokens on either side that count


def nearest_spans(training: Examples, held_out: Examples) -> list[tuple[int, int] | None]:
    """The first and last token of a guess for each held-out question; None for a text without tokens.

    Every token of a text that the question has too lends its weight, the inverse document frequency of the training
    texts, to the tokens near it, the more the nearer; the span of the training answers' median length with the largest
    sum, less the weights of its own tokens, is the guess.

    Args:
        training: of `quorem.finetuning.questions.encode_questions`, with Golds; weights and length are counted here.
        held_out: the same; its answers are not looked at.
    """
    passages = {id(passage): passage for passage in training.origins}.values()
    seen = Counter(token for passage in passages for token in set(passage.ids))
    length = _median_length(training)
    bell = np.maximum(0, NEAR + 1 - np.abs(np.arange(-NEAR, NEAR + 1))) / (NEAR + 1)
    found = list[tuple[int, int] | None]()
    for (question, ids), _ in zip(held_out.rows, held_out.origins, strict=True):
        asked = set(question[1:-1])
        rarity = {token: np.log((1 + len(passages)) / (1 + seen[token])) for token in asked}
        weights = np.array([rarity.get(token, 0.0) for token in ids])
        if not len(weights):
            found.append(None)
            continue
        near = np.convolve(weights, bell)[NEAR : NEAR + len(weights)] - (2 * NEAR + 1) * weights
        size = min(length, len(weights))
        sums = np.convolve(near, np.ones(size), "valid")
        first = int(sums.argmax())
        found.append((first, first + size - 1))
    return found


def _median_length(training: Examples) -> int:
    """Tokens of the middle one of the training answers, at least 1."""
    spans: Sequence[tuple[int, int]] = [
        span for gold, passage in zip(training.labels, training.origins, strict=True)
        if gold.span is not None and (span := passage.tokens(*gold.span)) is not None
    ]  # fmt: skip
    return int(np.median([last - first + 1 for first, last in spans])) if spans else 1
