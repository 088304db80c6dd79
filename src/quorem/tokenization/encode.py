"""Turning texts into ids."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unicodedata import combining

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError


def encode(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[int]]:
    """The ids of each text, of any length, without special tokens.

    A text cannot produce a special token other than the unknown one: "[MASK]" written in it is three words to be
    split like any other. (tokenizer(text), as everywhere in Hugging Face, takes it for the token.)

    Args:
        tokenizer: any fast tokenizer. Truncation and padding left over from an earlier call of it are switched off.
        texts: a batch; hundreds at once use all cores.

    Raises:
        UserError: if a text is not a string or not valid Unicode, or the tokenizer's pattern never ends on it.
    """
    with _as_text(tokenizer) as backend:
        try:
            return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
        except TypeError:
            for row, text in enumerate(texts):
                check_text(row, text)
            raise


def places_of(token: int, tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> list[list[tuple[int, int]]]:
    """Where in each text a token begins and ends; the same tokens as those of `encode`, which is faster.

    Args:
        token: its id.
        tokenizer: any fast tokenizer.
        texts: that `encode` takes.
    """
    with _as_text(tokenizer) as backend:
        found = backend.encode_batch(texts, add_special_tokens=False)
    return [[place for i, place in zip(each.ids, each.offsets, strict=True) if i == token] for each in found]


def encode_places(
    tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> list[tuple[list[int], list[tuple[int, int]]]]:
    """The ids of each text as `encode` gives them, and where each token begins and ends in it, in characters.

    A mark that a character is composed with (e and an acute accent, written as two) belongs to that character's token.

    Args:
        tokenizer: any fast tokenizer.
        texts: that `encode` takes.

    Raises:
        UserError: as `encode`.
    """
    for row, text in enumerate(texts):
        check_text(row, text)
    with _as_text(tokenizer) as backend:
        found = backend.encode_batch(texts, add_special_tokens=False)
    return [
        (each.ids, [(start, _behind_marks(text, end)) for start, end in each.offsets])
        for text, each in zip(texts, found, strict=True)
    ]


def _behind_marks(text: str, end: int) -> int:
    while 0 < end < len(text) and combining(text[end]):
        end += 1
    return end


@contextmanager
def _as_text(tokenizer: PreTrainedTokenizerFast) -> Iterator[Tokenizer]:
    """The library's tokenizer, for which the names of special tokens are text, without truncation and padding."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    found = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        yield backend
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the library's, for what its authors held to be impossible
            raise
        raise UserError(
            f"the tokenizer cannot split a text ({error}), because a pattern in its tokenizer.json does not fit it: "
            "use another tokenizer"
        ) from error
    finally:
        backend.encode_special_tokens = found


def check_text(row: int, text: Any) -> None:
    """Accept only what the tokenizers library can read.

    Args:
        row: where the text is, counted from 0; for the message.
        text: what should be a text.

    Raises:
        UserError: if it is not a string or not valid Unicode.
    """
    if not isinstance(text, str):
        raise UserError(f"text {row} (counted from 0) is {text!r}, not a string. Remove or fill empty rows.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"text {row} (counted from 0) is not valid Unicode: lone surrogate {text[error.start]!r} at character "
            f"{error.start}. Remove it, for example with text.encode('utf-8', 'ignore').decode()."
        ) from error
