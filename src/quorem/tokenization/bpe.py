"""Byte-pair encoding: words cut into frequent pieces, the marks of word starts among them."""

from collections import Counter

from tokenizers import Tokenizer
from tokenizers.models import BPE, Model
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import BpeTrainer

from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.wordpiece import choose_alphabet, repeat_words


def learn_bpe(counts: Counter[str], *, vocab_size: int, min_frequency: int) -> Model:
    """Join the most frequent pair of pieces until the vocabulary is full (Sennrich et al. 2016, arXiv:1508.07909).

    Every character kept is a piece, so that only characters left out are [UNK]. The trainer of the tokenizers library
    goes by counts and, among equals, by ids, which follow from the order of code points: nothing depends on its hash
    maps.

    Args:
        counts: how often each word occurs, marked by the steps.
        vocab_size: most tokens to have, the special ones included. Characters take at most half of it, the rarest being
            left out.
        min_frequency: rarer pairs are not joined.
    """
    alphabet = choose_alphabet(counts, size=(vocab_size - len(SPECIAL_TOKENS) + 1) // 2)
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.train_from_iterator(repeat_words(counts), trainer)
    return tokenizer.model
