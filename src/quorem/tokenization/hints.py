"""Warn early if another kind of tokenizer would suit the texts better."""

import logging
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from quorem.tokenization.unknown import Unknown

logger = logging.getLogger(__name__)

LOOKED_AT = 1_000_000  # characters
ENOUGH_WORDS = 1_000  # with fewer words, words that occur once mean nothing
MOST_ONCE = 0.6  # share of all words read
MOST_EVENTS = 0.5
BETWEEN_ITEMS = ",;|"  # what lists have after an item
OF_LANGUAGE = ("words", "wordpiece", "bpe", "unigram")
LONGEST_MEAN = 15  # characters; words of German have six
EVENT = re.compile(r"\w+[_:=]-?[\w.:/#-]*\d[\w.:/#-]*")
"""A name, a mark and a value with a digit, without a space: Pitch_60, TimeSig_4/4, price:12."""


def first_texts(texts: Iterator[str]) -> list[str]:
    """The first texts of a stream, for a look."""
    found: list[str] = []
    characters = 0
    for text in texts:
        found.append(text)
        characters += len(text) if isinstance(text, str) else 0  # what is no text is refused by who reads it
        if characters >= LOOKED_AT:
            break
    return found


def hint_at_kind(kind: str, texts: Sequence[str], counts: Counter[str], *, separator: str | None = None) -> None:
    """Warn if another kind of tokenizer, or another separator of items, would suit the texts better.

    Args:
        kind: the one chosen.
        texts: the first of them.
        counts: how often occurs what they all were split into.
        separator: of items; None for whitespace.
    """
    total = counts.total()
    if kind not in ("items", "item_bpe"):
        words = [word for text in texts for word in text.split()]
        events = sum(1 for word in words if EVENT.fullmatch(word))
        if len(words) >= ENOUGH_WORDS and events > MOST_EVENTS * len(words):
            example = next(word for word in words if EVENT.fullmatch(word))
            logger.warning(
                "words look like events (%s), and tokenizer.kind=%s splits them: --tokenizer items keeps each as one "
                "token", example, kind,
            )  # fmt: skip
            return
    if kind == "items" and separator is None and total >= ENOUGH_WORDS:
        for mark in BETWEEN_ITEMS:
            marked = sum(count for item, count in counts.items() if len(item) > 1 and item.endswith(mark))
            if marked > MOST_EVENTS * total:
                logger.warning(
                    "%.0f %% of all items end in %r, which is a part of them: give %s if that stands between items",
                    100 * marked / total, mark, shlex.quote(f"tokenizer.separator={mark} "),
                )  # fmt: skip
                return
    if kind not in ("words", "items") or total < ENOUGH_WORDS:
        return
    once = sum(1 for count in counts.values() if count == 1)
    if once > MOST_ONCE * total:
        advice = (
            "if the text is written without spaces, use --tokenizer wordpiece, unigram or characters"
            if kind == "words"
            else "check the column, and that tokenizer.separator is what separates the items"
        )
        logger.warning(
            "%.0f %% of all %s occur only once, so the model learns nothing about them: %s",
            100 * once / total,
            kind,
            advice,
        )


def hint_at_long_tokens(kind: str, counted: Unknown) -> None:
    """Warn if tokens of texts are whole runs without a space, which occur once.

    Args:
        kind: of the tokenizer.
        counted: the tally of what it encoded.
    """
    if kind not in OF_LANGUAGE or not counted.tokens:
        return
    length = counted.characters / counted.tokens
    if length > LONGEST_MEAN:
        logger.warning(
            "a token has %.0f characters on average: if the text is written without spaces, the vocabulary holds whole "
            "lines: use a smaller model.vocab_size, a larger tokenizer.min_frequency or --tokenizer characters", length,
        )  # fmt: skip
