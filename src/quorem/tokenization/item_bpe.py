r"""Runs of items: byte-pair encoding with items in the place of characters, so that a frequent run is one token.

Between the steps each item stands between two marks (" 60  +12  64 "), and so does each token (" 60  +12 "): a token
meets a text at the borders of items only, however items are spelled, and can be read. The vocabulary is that of BPE
(Sennrich et al. 2016, https://aclanthology.org/P16-1162); a text is cut into as few of its tokens as possible.
"""

import re
from collections import Counter

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, Model, Unigram
from tokenizers.trainers import BpeTrainer

from quorem.errors import UserError
from quorem.tokenization.items import parse_separator
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.steps import Steps

FIRST_SYMBOL = 0x10000
"""The code point that stands for the most frequent item while runs are learned; the others follow."""
MOST_ITEMS = 0x110000 - FIRST_SYMBOL
LONGEST = 16
"""Items in a run, at most: longer ones are phrases of single texts, and the library's table takes some 300 bytes for
each letter of the vocabulary (364 MB for 20,000 tokens of REMI; without this limit gigabytes)."""
FEWEST = 2
"""How often a pair occurs to be joined, at least: a run that occurs once is a copy of the data."""


def item_run_steps(*, separator: str | None) -> Steps:
    r"""Texts as `item_steps` splits them, but whole: each item between two marks, which are the separator or spaces.

    What looks like the name of a special token gets a backslash ("[\MASK]"), which decoding takes away, so that no text
    holds one. Decoding gives the items with single separators.

    Args:
        separator: one character, none of the special tokens' names; r"\t" is a tab; None is whitespace.

    Raises:
        UserError: for another separator.
    """
    mark = " " if separator is None else parse_separator(separator)
    if len(mark) > 1:
        raise UserError(
            f"tokenizer.separator={separator!r}: tokenizer.kind=item_bpe needs one character: use a comma, a tab "
            "(\\t), or leave it out for whitespace"
        )
    between = r"\s+" if separator is None else f"{re.escape(mark)}+"
    names = rf"\\*(?:{'|'.join(re.escape(token[1:]) for token in SPECIAL_TOKENS)})"
    return Steps(
        normalizers.Sequence(
            [
                normalizers.Replace(Regex(rf"\[(?={names})"), "[\\"),
                normalizers.Replace(Regex(rf"\A{between}|{between}\z"), ""),
                normalizers.Replace(Regex(between), mark * 2),
                normalizers.Replace(Regex(r"\A(?!\z)|(?<!\A)\z"), mark),
            ]
        ),
        pre_tokenizers.Sequence([]),
        decoders.Sequence(
            [
                decoders.Fuse(),
                decoders.Replace(Regex(rf"\A{re.escape(mark)}|{re.escape(mark)}\z"), ""),
                decoders.Replace(mark * 2, mark),
                decoders.Replace(Regex(rf"\[\\(?={names})"), "["),
            ]
        ),
    )


def learn_item_runs(counts: Counter[str], *, vocab_size: int, min_frequency: int) -> Model:
    """Keep the most frequent items, then join the most frequent pair of tokens until the vocabulary is full.

    Items have the first ids, by falling frequency, ties in the order of code points; then come runs as they were found.
    A run never goes from one text into another, nor over an item that was not kept: such items are [UNK], one for all
    that follow each other. The vocabulary stays smaller where no pair occurs twice.

    Args:
        counts: how often each text occurs, marked by the steps; all of them are in memory.
        vocab_size: most tokens to have, the special ones included. Items take at most all of it.
        min_frequency: rarer items and, if it is above FEWEST, rarer pairs are left out.

    Raises:
        UserError: if more than MOST_ITEMS items were to be kept.
    """
    mark = next((text[0] for text in counts if text), " ")
    texts = [(text[1:-1].split(mark * 2), count) for text, count in counts.items() if text]
    frequency: Counter[str] = Counter()
    for items, count in texts:
        for item in items:
            frequency[item] += count
    kept = sorted((item for item in frequency if frequency[item] >= min_frequency), key=lambda i: (-frequency[i], i))
    kept = kept[: vocab_size - len(SPECIAL_TOKENS)]
    if len(kept) > MOST_ITEMS:
        raise UserError(
            f"tokenizer.kind=item_bpe: {len(kept):,} distinct items are more than {MOST_ITEMS:,}: raise "
            "tokenizer.min_frequency or use tokenizer.kind=items"
        )
    symbols = {item: chr(FIRST_SYMBOL + index) for index, item in enumerate(kept)}
    spelled = {symbol: f"{mark}{item}{mark}" for item, symbol in symbols.items()}
    # As special tokens the symbols get fixed ids, which decide ties between pairs: see learn_wordpieces.
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=max(FEWEST, min_frequency),
        special_tokens=[*SPECIAL_TOKENS, *spelled],
        max_token_length=LONGEST + 1,  # the trainer stays below it
        show_progress=False,
    )
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = (" ".join("".join(symbols.get(item, " ") for item in items) for _ in range(n)) for items, n in texts)
    tokenizer.train_from_iterator(rows, trainer)
    ids = tokenizer.get_vocab(with_added_tokens=False)
    runs = sorted(ids, key=lambda token: ids[token])[len(SPECIAL_TOKENS) :]
    # All scores are equal, so the likeliest way to cut a text is the one with the fewest tokens.
    vocabulary = [(token, 0.0) for token in SPECIAL_TOKENS]
    vocabulary += [("".join(spelled[symbol] for symbol in run), -1.0) for run in runs]
    return Unigram(vocabulary, unk_id=SPECIAL_TOKENS.index("[UNK]"), byte_fallback=False)
