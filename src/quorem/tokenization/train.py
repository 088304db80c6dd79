"""Training a tokenizer from texts."""

from collections import Counter
from collections.abc import Callable, Iterable

from tokenizers import Tokenizer, normalizers
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.models import Model
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError, did_you_mean
from quorem.tokenization.encode import check_text
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.wordpiece import learn_wordpieces
from quorem.tokenization.words import learn_words

# kind -> function from the counts of words to a model whose first ids are SPECIAL_TOKENS
TOKENIZERS: dict[str, Callable[..., Model]] = {
    "words": learn_words,
    "wordpiece": learn_wordpieces,
}

NORMALIZATIONS: dict[str, list[Normalizer]] = {
    "nfc": [normalizers.NFC()],
    "nfkc": [normalizers.NFKC()],
    "none": [],
}


def train_tokenizer(
    texts: Iterable[str],
    *,
    kind: str = "words",
    vocab_size: int,
    lowercase: bool = True,
    strip_accents: bool = False,
    normalization: str = "nfc",
    min_frequency: int = 1,
    model_max_length: int | None = None,
) -> PreTrainedTokenizerFast:
    """Learn a vocabulary from texts, read once, one at a time; memory grows with the number of distinct words only.

    Texts are split at whitespace, which is dropped, and around each punctuation mark; every other character of any
    script is kept. Scripts written without spaces are best segmented first or cut by kind="wordpiece". Nothing is
    random: the same texts, in any order, give the same tokenizer. The size to give a model is len(tokenizer), which
    may be less than vocab_size; called, the tokenizer puts [CLS] before and [SEP] after a text, and pads on the right.

    Args:
        texts: the corpus.
        kind: a key of TOKENIZERS.
        vocab_size: most tokens to have, the 5 special ones included.
        lowercase: whether "The" and "the" are one word.
        strip_accents: whether to remove all combining marks. They are vowels in many scripts (Hindi, Thai, Arabic).
        normalization: Unicode form: "nfc", "nfkc" (also unifies full-width and other compatible forms) or "none".
        min_frequency: rarer words (for "wordpiece": rarer pairs of pieces) get no token of their own; at least 1.
        model_max_length: tokens, the special ones included, at which the tokenizer truncates when asked to.

    Raises:
        UserError: if an option is not allowed, a text is not valid Unicode, or no text holds a word to keep.
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
    normalizer = build_normalizer(normalization, lowercase=lowercase, strip_accents=strip_accents)
    counts = count_words(texts, normalizer)
    model = TOKENIZERS[kind](counts, vocab_size=vocab_size, min_frequency=min_frequency)
    tokenizer = wrap_model(model, normalizer, model_max_length)
    if len(tokenizer) == len(SPECIAL_TOKENS):
        raise UserError(
            f"nothing to put in the vocabulary: {len(counts)} distinct words found in the texts, none kept with "
            f"min_frequency={min_frequency} and vocab_size={vocab_size}. Give texts with words, lower min_frequency "
            "or raise vocab_size."
        )
    return tokenizer


def build_normalizer(normalization: str, *, lowercase: bool, strip_accents: bool) -> Normalizer:
    """What is done to a text before it is split."""
    steps = list(NORMALIZATIONS[normalization])
    if lowercase:
        steps.append(normalizers.Lowercase())
    if strip_accents:  # NFC afterwards puts Korean syllables, which NFD takes apart, together again
        steps += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    return normalizers.Sequence(steps)


def count_words(texts: Iterable[str], normalizer: Normalizer) -> Counter[str]:
    """How often each word and punctuation mark occurs.

    Raises:
        UserError: if a text is not a string or not valid Unicode.
    """
    splitter = BertPreTokenizer()
    counts: Counter[str] = Counter()
    for row, text in enumerate(texts):
        try:
            normalized = normalizer.normalize_str(text)
        except (TypeError, UnicodeEncodeError):
            check_text(row, text)
            raise
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalized))
    return counts


def wrap_model(model: Model, normalizer: Normalizer, model_max_length: int | None) -> PreTrainedTokenizerFast:
    """The whole Hugging Face tokenizer around a model whose first ids are SPECIAL_TOKENS."""
    pad, unk, cls, sep, mask = SPECIAL_TOKENS
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.decoder = WordPieceDecoder(prefix="##")
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} $B:1 {sep}:1",
        special_tokens=[(token, SPECIAL_TOKENS.index(token)) for token in (cls, sep)],
    )
    limit = {} if model_max_length is None else {"model_max_length": model_max_length}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unk,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
        padding_side="right",
        **limit,
    )
