"""What is done to a text before and after a vocabulary is looked up, and the steps for written language."""

from typing import NamedTuple

from tokenizers import normalizers
from tokenizers.decoders import Decoder
from tokenizers.decoders import WordPiece as WordPieceDecoder
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer

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
    normalizer = list(NORMALIZATIONS[normalization])
    if lowercase:
        normalizer.append(normalizers.Lowercase())
    if strip_accents:  # NFC afterwards puts Korean syllables, which NFD takes apart, together again
        normalizer += [normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]
    return Steps(normalizers.Sequence(normalizer), BertPreTokenizer(), WordPieceDecoder(prefix="##"))
