"""Windows over texts that are longer than the encoder's: they share some tokens, and each place is one window's own."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple


class Window(NamedTuple):
    """A run of units (words or tokens) of a text.

    Args:
        start: its first unit.
        end: behind its last one.
        own_start: the first unit that this window decides on.
        own_end: behind the last of these; the windows' own runs lie end to end.
    """

    start: int
    end: int
    own_start: int
    own_end: int


def windows(sizes: Sequence[int], *, room: int, stride: int) -> list[Window]:
    """Cut a text into windows of at most `room` tokens; a text that fits is one.

    A window begins so far before the end of the one before that both share about `stride` tokens, and the middle of
    what they share is where one's own units end and the other's begin: a unit is decided on with context on both sides.

    Args:
        sizes: tokens of each unit, at least 1 and at most `room` each.
        room: at least 1.
        stride: less than room.
    """
    found = list(_spans(sizes, room, stride))
    if not found:
        return []
    borders = [0, *((one[1] + other[0]) // 2 for one, other in pairwise(found)), len(sizes)]
    return [Window(*span, *own) for span, own in zip(found, pairwise(borders), strict=True)]


def _spans(sizes: Sequence[int], room: int, stride: int) -> Iterator[tuple[int, int]]:
    start = 0
    while start < len(sizes):
        end, total = start, 0
        while end < len(sizes) and total + sizes[end] <= room:
            total += sizes[end]
            end += 1
        yield start, end
        if end == len(sizes):
            return
        after, shared = end, 0
        while after - 1 > start and shared + sizes[after - 1] <= min(stride, room - sizes[end]):
            after -= 1
            shared += sizes[after]
        start = after
