"""WordPieces: words cut into frequent pieces, '##' before each piece that continues a word."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import repeat

from tokenizers import Regex, Tokenizer
from tokenizers.models import Model, WordPiece
from tokenizers.pre_tokenizers import FixedLength, Sequence, Split, WhitespaceSplit
from tokenizers.trainers import WordPieceTrainer

from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.steps import Steps, text_steps

LONGEST = 100  # characters of a word; max_input_chars_per_word of the library's WordPiece


def learn_wordpieces(counts: Counter[str], *, vocab_size: int, min_frequency: int) -> Model:
    """Merge the most frequent pairs of pieces until the vocabulary is full (the trainer of the tokenizers library).

    Every character kept has a piece for the start and one for the inside of words, so that only characters left out
    are [UNK], cut off by `wordpiece_steps` and `isolate_unknown`.

    Args:
        counts: how often each word occurs.
        vocab_size: most tokens to have, the special ones included. Characters take at most all of it, the rarest
            being left out.
        min_frequency: rarer pairs are not merged.
    """
    alphabet = choose_alphabet(counts, size=(vocab_size - len(SPECIAL_TOKENS)) // 2)
    # Left to itself the trainer numbers the '##' characters in the order of a hash map, which differs from run to run
    # and decides ties between merges, and it adds them without regard to vocab_size (huggingface/tokenizers#1794,
    # #903; measured with 0.23.3). Handed over as special tokens they have fixed ids; only the vocabulary is kept.
    trainer = WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{character}" for character in alphabet)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.train_from_iterator(repeat_words(counts), trainer)
    return WordPiece(tokenizer.get_vocab(with_added_tokens=False), unk_token="[UNK]")


def wordpiece_steps(*, normalization: str, lowercase: bool, strip_accents: bool) -> Steps:
    """`text_steps`, and runs without a space are cut every LONGEST characters: the library knows no longer word.

    Where they were cut a space stands when tokens become text again.
    """
    steps = text_steps(normalization=normalization, lowercase=lowercase, strip_accents=strip_accents)
    return steps._replace(splitter=Sequence([steps.splitter, FixedLength(LONGEST)]))


def isolate_unknown(steps: Steps, model: Model) -> Steps:
    """The steps with each character that is no piece a word of its own: else the word it stands in were [UNK].

    Args:
        steps: of `wordpiece_steps`.
        model: of `learn_wordpieces`.
    """
    tokens = json.loads(Tokenizer(model).to_str())["model"]["vocab"]
    alphabet = sorted(ord(token) for token in tokens if len(token) == 1)
    first = [point for i, point in enumerate(alphabet) if i == 0 or alphabet[i - 1] + 1 != point]
    last = [point for i, point in enumerate(alphabet) if i == len(alphabet) - 1 or alphabet[i + 1] - 1 != point]
    known = "".join(rf"\x{{{start:x}}}-\x{{{end:x}}}" for start, end in zip(first, last, strict=True))
    apart = Split(Regex(f"[^{known}]" if known else "(?m)."), "isolated")
    return steps._replace(splitter=Sequence([steps.splitter, apart]))


def choose_alphabet(counts: Counter[str], *, size: int) -> list[str]:
    """The most frequent characters, at most size of them, in the order of code points; ties go to the lower one."""
    frequency: Counter[str] = Counter()
    for word, count in counts.items():
        for character in word:
            frequency[character] += count
    return sorted(sorted(frequency, key=lambda character: (-frequency[character], character))[:size])


def repeat_words(counts: Counter[str], *, at_once: int = 1000) -> Iterator[str]:
    """Each word as often as it was counted, separated by spaces: the trainer takes texts, not counts."""
    for word, count in counts.items():
        full, rest = divmod(count, at_once)
        yield from repeat(" ".join(repeat(word, at_once)), full)
        yield " ".join(repeat(word, rest))
