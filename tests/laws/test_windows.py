"""Windows over long texts: every unit is one window's own, none is too long, neighbours share what was asked."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quorem.finetuning.windows import windows


@given(st.data())
def test_windows_cover_a_text_once(data):
    room = data.draw(st.integers(1, 12))
    stride = data.draw(st.integers(0, room - 1))
    sizes = data.draw(st.lists(st.integers(1, room), max_size=40))
    found = windows(sizes, room=room, stride=stride)
    own = [unit for each in found for unit in range(each.own_start, each.own_end)]
    assert own == list(range(len(sizes)))
    for each in found:
        assert each.start <= each.own_start <= each.own_end <= each.end
        assert sum(sizes[each.start : each.end]) <= room
        assert each.end > each.start
    for one, other in pairwise(found):
        assert one.start < other.start <= one.end < other.end
        assert sum(sizes[other.start : one.end]) <= stride
    if sum(sizes) <= room:
        assert len(found) == min(1, len(sizes))


def test_the_middle_of_what_is_shared_is_the_border():
    assert windows([1] * 10, room=6, stride=2) == [(0, 6, 0, 5), (4, 10, 5, 10)]
    assert windows([2, 2, 2], room=4, stride=2) == [(0, 2, 0, 1), (1, 3, 1, 3)]
