"""Normalising, splitting and decoding of text around a vocabulary, and the steps for written language."""

from typing import NamedTuple

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers.decoders import Decoder
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer

MARK = "\u2581"
"""Stands for the space before a word (LOWER ONE EIGHTH BLOCK, as sentencepiece has it); in a text it is a space."""
NORMALIZATIONS: dict[str, list[Normalizer]] = {
    "nfc": [normalizers.NFC()],
    "nfkc": [normalizers.NFKC()],
    "none": [],
}


class Steps(NamedTuple):
    """Around the vocabulary: text -> normalizer -> splitter -> tokens, and tokens -> decoder -> text."""

    normalizer: Normalizer
    splitter: PreTokenizer
    decoder: Decoder


def text_steps(*, normalization: str, lowercase: bool, strip_accents: bool) -> Steps:
    """Written language: normalised, then split at whitespace and around each punctuation mark.

    Args:
        normalization: a key of NORMALIZATIONS.
        lowercase: whether case is folded.
        strip_accents: whether combining marks are removed.
    """
    found = _normalizers(normalization, lowercase=lowercase, strip_accents=strip_accents)
    return Steps(normalizers.Sequence(found), BertPreTokenizer(), WordPieceDecoder(prefix="##"))


def marked_steps(*, normalization: str, lowercase: bool, strip_accents: bool) -> Steps:
    """The same with a mark before each word, so that decoding knows where spaces were: runs of whitespace become one.

    Punctuation is still apart, so that no piece is the name of a special token.
    """
    found = _normalizers(normalization, lowercase=lowercase, strip_accents=strip_accents)
    return Steps(
        normalizers.Sequence([*found, *_one_space()]),
        pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme="first"), pre_tokenizers.Punctuation("isolated")]
        ),
        decoders.Metaspace(replacement=MARK, prepend_scheme="first"),
    )


def character_steps(*, normalization: str, lowercase: bool, strip_accents: bool) -> Steps:
    """Every character for itself; runs of whitespace are one, the mark."""
    found = _normalizers(normalization, lowercase=lowercase, strip_accents=strip_accents)
    return Steps(
        normalizers.Sequence([*found, *_one_space(), normalizers.Replace(" ", MARK)]),
        pre_tokenizers.Split(Regex(r"(?m)."), behavior="isolated"),
        decoders.Sequence([decoders.Fuse(), decoders.Replace(MARK, " ")]),
    )


def _normalizers(normalization: str, *, lowercase: bool, strip_accents: bool) -> list[Normalizer]:
    normalizer = list(NORMALIZATIONS[normalization])
    if lowercase:
        normalizer.append(normalizers.Lowercase())
    if strip_accents:  # NFC afterwards puts Korean syllables, which NFD takes apart, together again
        normalizer += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    return normalizer


def _one_space() -> list[Normalizer]:
    """A single space wherever there is whitespace or the mark, none at the ends."""
    return [
        normalizers.Replace(Regex(rf"[\s{MARK}]+"), " "),
        normalizers.Replace(Regex(r"\A | \z"), ""),
    ]
