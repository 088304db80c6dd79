"""Whole words: the huge vocabulary, one id per word."""

import logging
from collections import Counter

from tokenizers.models import Model, WordLevel

from quorem.tokenization.special import SPECIAL_TOKENS

logger = logging.getLogger(__name__)


def learn_words(counts: Counter[str], *, vocab_size: int, min_frequency: int) -> Model:
    """Keep the most frequent words; every other word is [UNK].

    Ids follow the special tokens by falling frequency, ties in the order of code points. The order matters: embeddings
    that give frequent tokens more room, and samplers by rank, read it off the id.

    Args:
        counts: how often each word occurs.
        vocab_size: most tokens to have, the special ones included.
        min_frequency: rarer words are left out.
    """
    kept = [word for word, count in counts.items() if count >= min_frequency]
    kept.sort(key=lambda word: (-counts[word], word))
    tokens = (*SPECIAL_TOKENS, *kept[: vocab_size - len(SPECIAL_TOKENS)])
    if cut := len(SPECIAL_TOKENS) + len(kept) - len(tokens):
        logger.info(
            "model.vocab_size=%d leaves out %s of %s different tokens, the rarest, which become [UNK]: "
            "model.vocab_size=%d keeps them all",
            vocab_size, f"{cut:,}", f"{len(kept):,}", len(SPECIAL_TOKENS) + len(kept),
        )  # fmt: skip
    return WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")
