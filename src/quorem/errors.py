"""The one exception users see: a message that says what is wrong, what is allowed and what to do."""

import math
import operator
import reprlib
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

MOST, LONGEST = 100, 60  # names in a list, and characters of one
MOST_MEANT = 3  # names that somebody may have meant
MOST_BITS = 1_000  # of a number that is written out; Python writes no more than 4,300 digits
LONGEST_WORD = 500  # characters without a space in a message; paths have fewer


class UserError(Exception):
    """Something the user can fix, in one line. The command line prints it and exits with code 2."""

    def __init__(self, message: str) -> None:
        # What it quotes, such as the name of a column, may have line breaks.
        words = " ".join(message.splitlines()).split(" ")
        cut = (word if len(word) <= LONGEST_WORD else f"{word[:LONGEST]}...{word[-LONGEST:]}" for word in words)
        super().__init__(" ".join(cut))


def shown(value: Any) -> str:
    """A value for a message, however large it is."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = LONGEST
    return short.repr(value)


def check_choice(key: str, value: str | None, allowed: Iterable[str]) -> None:
    """Check a named choice.

    Raises:
        UserError: naming the key, the value, the closest allowed one and all of them.
    """
    names = list(allowed)
    if value not in names:
        raise UserError(f"{key}={value}: unknown.{did_you_mean(str(value), names)}")


def check_number(key: str, value: float | None, **bounds: float) -> None:
    """Check a number against bounds above, at_least, below and at_most; None passes.

    Raises:
        UserError: naming the key, the value and the bounds.
    """
    fits: dict[str, Callable[[float, float], bool]] = {
        "above": operator.gt, "at_least": operator.ge, "below": operator.lt, "at_most": operator.le
    }  # fmt: skip
    if value is not None and not (
        math.isfinite(value) and all(fits[name](value, bound) for name, bound in bounds.items())
    ):
        needed = " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in bounds.items())
        raise UserError(f"{key}={value}: a number {needed} needed")


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The end of an unknown-name error: ' Did you mean X?' where one is close, and the allowed names.

    Of settings, whose names have dots, those are close that end in the name: model.size for size. A list of more than
    a dozen names is given only where none is close; long names and long lists are cut.

    Args:
        name: what was given.
        allowed: every name that would have been accepted.
    """
    names = sorted(allowed)
    folded = {known.casefold(): known for known in names}
    close = get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    if name.casefold() not in folded:
        close = [each for each in folded if each.endswith(f".{name.casefold()}")][:MOST_MEANT] or close
    hint = f" Did you mean {' or '.join(_legible(folded[each]) for each in close)}?" if close else ""
    if hint and len(names) > 12:
        return hint
    shown = [_legible(known) for known in names[:MOST]]
    more = f" and {len(names) - MOST:,} more" if len(names) > MOST else ""
    return f"{hint} Allowed: {', '.join(shown)}{more}."


def _legible(name: str) -> str:
    """A name in a message, cut; between quotes where a list would hide its ends: a comma in it, a space around it."""
    cut = name if len(name) <= LONGEST else f"{name[:LONGEST]}..."
    return cut if cut == cut.strip() and "," not in cut else repr(cut)
