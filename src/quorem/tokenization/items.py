"""Items: what stands between two separators is one token, kept exactly as it is written."""

import re

from tokenizers import Regex, decoders, normalizers
from tokenizers.pre_tokenizers import Split, WhitespaceSplit

from quorem.errors import UserError
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.steps import Steps

RESERVED = frozenset("\\" + "".join(SPECIAL_TOKENS))
"""Characters no separator may have: splitting must neither cut the name of a special token nor meet what marks it."""


def item_steps(*, separator: str | None) -> Steps:
    r"""Sessions of items: split at the separator and nowhere else, in order; case, accents and punctuation are kept.

    Spaces around another separator belong to the items. Nothing between two separators is no item. Tokens are the
    items, but for "[MASK]" and the other names of special tokens: they get a backslash (r"\[MASK]"), also inside longer
    items, so that no item is a special token. Decoding takes it away and puts separators, or single spaces, between
    the items.

    Args:
        separator: any text without a character of the special tokens' names; r"\t" is a tab; None is whitespace.

    Raises:
        UserError: for another separator.
    """
    between = " " if separator is None else parse_separator(separator)
    names = "|".join(re.escape(token[1:]) for token in SPECIAL_TOKENS)
    return Steps(
        normalizers.Replace(Regex(rf"\[(?={names})"), "\\["),
        WhitespaceSplit() if separator is None else Split(between, behavior="removed"),
        decoders.Sequence(
            [
                decoders.Replace(Regex(r"\A"), between),
                decoders.Fuse(),
                decoders.Replace(Regex(rf"\A{re.escape(between)}"), ""),
                decoders.Replace(Regex(rf"\\(?=\[(?:{names}))"), ""),
            ]
        ),
    )


def parse_separator(separator: str) -> str:
    r"""The separator meant: r"\t", which shells pass on as it stands, is a tab.

    Raises:
        UserError: if it is empty or has a character of RESERVED.
    """
    meant = separator.replace("\\t", "\t")
    if not meant or RESERVED.intersection(meant):
        raise UserError(
            f"tokenizer.separator={separator!r}: at least one character is needed, and none of "
            f"{''.join(sorted(RESERVED))}: use a comma, a tab (\\t), or leave it out for whitespace"
        )
    return meant
