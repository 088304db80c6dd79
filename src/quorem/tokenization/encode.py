"""Turning texts into ids."""

from typing import Any

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
        UserError: if a text is not a string or not valid Unicode.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    found = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]
    except TypeError:
        for row, text in enumerate(texts):
            check_text(row, text)
        raise
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
