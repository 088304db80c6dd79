"""Batches are made a step ahead, and nothing else changes by that."""

import threading

import pytest

from quorem.data.prefetch import prefetch


@pytest.mark.parametrize("steps", [[], [7], range(3, 40)])
def test_steps_come_in_order_with_what_was_made_for_them(steps):
    assert list(prefetch(lambda step: step**2, steps)) == [(step, step**2) for step in steps]


def test_the_next_one_is_made_while_one_is_in_use():
    made = [threading.Event() for _ in range(4)]

    def make(step):
        made[step].set()
        return threading.current_thread()

    for step, thread in prefetch(make, range(4)):
        assert thread is not threading.current_thread()
        if step < 3:
            assert made[step + 1].wait(10)
        assert all(not event.is_set() for event in made[step + 2 :])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_comes_when_its_step_is_due(error):
    def make(step):
        if step == 2:
            raise error("here")
        return step

    steps = prefetch(make, range(5))
    assert [next(steps), next(steps)] == [(0, 0), (1, 1)]
    with pytest.raises(error, match="here"):
        next(steps)


def test_a_loop_that_is_left_leaves_no_thread():
    before = threading.active_count()
    steps = prefetch(lambda step: step, range(100))
    next(steps)
    steps.close()
    assert threading.active_count() == before
