"""Whole words: the huge vocabulary, one id per word."""

from collections import Counter

from tokenizers.models import Model, WordLevel

from quorem.tokenization.special import SPECIAL_TOKENS


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
    return WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="[UNK]")
