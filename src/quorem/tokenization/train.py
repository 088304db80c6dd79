"""Training a tokenizer from texts."""

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from itertools import chain
from typing import Any, NamedTuple

from tokenizers import Tokenizer
from tokenizers.models import Model
from transformers import PreTrainedTokenizerFast

from quorem.config.settings import TokenizerSettings
from quorem.errors import UserError, check_choice, check_number, did_you_mean
from quorem.tokenization.bpe import learn_bpe
from quorem.tokenization.encode import check_text
from quorem.tokenization.files import tokenizer_files
from quorem.tokenization.hints import first_texts, hint_at_kind
from quorem.tokenization.item_bpe import item_run_steps, learn_item_runs
from quorem.tokenization.items import item_steps
from quorem.tokenization.special import SPECIAL_IDS, SPECIAL_TOKENS
from quorem.tokenization.steps import NORMALIZATIONS, Steps, character_steps, marked_steps, text_steps
from quorem.tokenization.unigram import learn_unigram
from quorem.tokenization.wordpiece import isolate_unknown, learn_wordpieces, wordpiece_steps
from quorem.tokenization.words import learn_words
from quorem.tokenization.wrap import wrap

logger = logging.getLogger(__name__)


class Kind(NamedTuple):
    """A kind of tokenizer.

    Attributes:
        learn: from the counts of what was split to a model whose first ids are SPECIAL_TOKENS.
        steps: from its options to what is done around the model.
        options: their names; the others of OPTIONS have no meaning for it.
        finish: the steps with what follows from the model.
    """

    learn: Callable[..., Model]
    steps: Callable[..., Steps]
    options: tuple[str, ...]
    finish: Callable[[Steps, Model], Steps] = lambda steps, _: steps


OPTIONS: dict[str, Any] = {"normalization": "nfc", "lowercase": True, "strip_accents": False, "separator": None}
"""The options that not every kind has, with their defaults."""

MANY_WORDS = 50_000  # different ones, of which learning takes a while
OF_TEXT = ("normalization", "lowercase", "strip_accents")

TOKENIZERS: dict[str, Kind] = {
    "words": Kind(learn_words, text_steps, OF_TEXT),
    "wordpiece": Kind(learn_wordpieces, wordpiece_steps, OF_TEXT, isolate_unknown),
    "bpe": Kind(learn_bpe, marked_steps, OF_TEXT),
    "unigram": Kind(learn_unigram, marked_steps, OF_TEXT),
    "characters": Kind(learn_words, character_steps, OF_TEXT),
    "items": Kind(learn_words, item_steps, ("separator",)),
    "item_bpe": Kind(learn_item_runs, item_run_steps, ("separator",)),
}


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str = "words",
    vocab_size: int,
    lowercase: bool = True,
    strip_accents: bool = False,
    normalization: str = "nfc",
    separator: str | None = None,
    min_frequency: int = 1,
    model_max_length: int | None = None,
) -> PreTrainedTokenizerFast:
    """Learn a vocabulary from texts, read once, one at a time.

    Memory grows with the number of distinct words only; with kind="item_bpe" with all distinct texts.

    Texts are split at whitespace, which is dropped, and around each punctuation mark; every other character of any
    script is kept. Scripts written without spaces are best segmented first or cut by kind="wordpiece". Where another
    kind would suit the texts better, a warning says so. With
    kind="items" texts are split at the separator only and nothing in them is changed; kind="item_bpe" makes frequent
    runs of such items one token. Nothing is random: the same
    texts, in any order, give the same tokenizer. The size to give a model is len(tokenizer), which may be less than
    vocab_size; called, the tokenizer puts [CLS] before and [SEP] after a text, and pads on the right.

    Args:
        texts: the corpus.
        kind: a key of TOKENIZERS.
        vocab_size: most tokens to have, the 5 special ones included.
        lowercase: whether "The" and "the" are one word.
        strip_accents: whether to remove all combining marks. They are vowels in many scripts (Hindi, Thai, Arabic).
        normalization: Unicode form: "nfc", "nfkc" (also unifies full-width and other compatible forms) or "none".
        separator: for "items" and "item_bpe": what stands between items, for example ","; whitespace if None. See
            `item_steps`.
        min_frequency: rarer words (for "wordpiece": rarer pairs of pieces) get no token of their own; at least 1.
        model_max_length: tokens, the special ones included, at which the tokenizer truncates when asked to.

    Raises:
        UserError: if an option is not allowed or has no meaning for the kind, a text is not valid Unicode, or no text
            holds a word to keep.
    """
    for name, value, allowed in (("kind", kind, TOKENIZERS), ("normalization", normalization, NORMALIZATIONS)):
        if value not in allowed:
            raise UserError(f"{name}={value!r} is unknown.{did_you_mean(value, allowed)}")
    if vocab_size <= len(SPECIAL_TOKENS):
        raise UserError(
            f"vocab_size={vocab_size} is too small: it counts the {len(SPECIAL_TOKENS)} special tokens "
            f"({', '.join(SPECIAL_TOKENS)}). Set it to more than {len(SPECIAL_TOKENS)}."
        )
    if min_frequency < 1:
        raise UserError(f"min_frequency={min_frequency} is not allowed. Set it to 1 or more.")
    steps = build_steps(
        kind, normalization=normalization, lowercase=lowercase, strip_accents=strip_accents, separator=separator
    )
    texts = iter(texts)
    first = first_texts(texts)
    counts = count_words(chain(first, texts), steps)
    hint_at_kind(kind, first, counts, separator=separator)
    if len(counts) >= MANY_WORDS:
        logger.info("learning at most %s tokens from %s different words", f"{vocab_size:,}", f"{len(counts):,}")
    model = TOKENIZERS[kind].learn(counts, vocab_size=vocab_size, min_frequency=min_frequency)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.decoder = TOKENIZERS[kind].finish(steps, model)
    wrapped = wrap(tokenizer, model_max_length=model_max_length)
    if len(wrapped) == len(SPECIAL_TOKENS):
        raise UserError(
            f"nothing to put in the vocabulary: {len(counts)} distinct words found in the texts, none kept with "
            f"min_frequency={min_frequency} and vocab_size={vocab_size}. Give texts with words, lower min_frequency "
            "or raise vocab_size."
        )
    return wrapped


def build_steps(kind: str, **options: Any) -> Steps:
    """What a kind of tokenizer does around its vocabulary.

    Args:
        kind: a key of TOKENIZERS.
        options: all of OPTIONS.

    Raises:
        UserError: if one that is not the default has no meaning for the kind, or a separator cannot be used.
    """
    chosen = TOKENIZERS[kind]
    for name, value in options.items():
        if name not in chosen.options and value != OPTIONS[name]:
            raise UserError(
                f"tokenizer.{name}={value} has no meaning for tokenizer.kind={kind}: leave it out (kind={kind} takes "
                f"{', '.join(chosen.options)} and min_frequency)"
            )
    return chosen.steps(**{name: options[name] for name in chosen.options})


def count_words(texts: Iterable[str], steps: Steps) -> Counter[str]:
    """How often each of what the steps split texts into occurs.

    Raises:
        UserError: if a text is not a string or not valid Unicode.
    """
    counts: Counter[str] = Counter()
    for row, text in enumerate(texts):
        try:
            normalized = steps.normalizer.normalize_str(text)
        except (TypeError, UnicodeEncodeError):
            check_text(row, text)
            raise
        counts.update(word for word, _ in steps.splitter.pre_tokenize_str(normalized))
    return counts


def check_tokenizer(tokenizer: TokenizerSettings, vocab_size: int) -> None:
    """Check how text becomes tokens.

    Raises:
        UserError: naming the key.
    """
    if tokenizer.path is not None:
        for name, value in asdict(replace(tokenizer, path=None, ids=False)).items():
            if value != getattr(TokenizerSettings(), name):
                raise UserError(
                    f"tokenizer.{name}={value} is for training a tokenizer, but tokenizer.path="
                    f"{tokenizer.path} is already trained: leave one of the two out"
                )
        if not tokenizer_files(tokenizer.path):
            raise UserError(f"tokenizer.path={tokenizer.path}: no tokenizer.json there: give a fast tokenizer's folder")
    elif tokenizer.ids:
        raise UserError("tokenizer.ids=true needs tokenizer.path, the folder of the tokenizer that made the ids")
    check_choice("tokenizer.kind", tokenizer.kind, TOKENIZERS)
    check_choice("tokenizer.normalization", tokenizer.normalization, NORMALIZATIONS)
    build_steps(tokenizer.kind, **{name: getattr(tokenizer, name) for name in OPTIONS})
    check_number("model.vocab_size", vocab_size, above=SPECIAL_IDS)
