import logging

import pytest

from quorem.training import timing
from quorem.training.timing import TIMED, StepTimer, duration


@pytest.mark.parametrize("start", [0, 500])
def test_the_time_left_is_told_once_from_the_steps_after_the_first(monkeypatch, caplog, start):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    caplog.set_level(logging.INFO)
    clock = StepTimer(start, start + 1 + TIMED + 1800)
    for done in range(start + 1, start + 30):
        now[0] += 100.0 if done == start + 1 else 2.0  # the first one compiles, or reads, or makes moments
        if done in clock.marks:
            clock.note(done)
    assert [record.message for record in caplog.records] == ["2 s a step: 1,800 more will take about 1 h 0 min"]


@pytest.mark.parametrize("steps", [1, TIMED, TIMED + 1, TIMED + 5])
def test_what_is_soon_over_is_not_worth_telling(caplog, steps):
    caplog.set_level(logging.INFO)
    clock = StepTimer(0, steps)
    for done in range(1, steps + 1):
        clock.note(done)
    assert not caplog.records


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (3569, "59 min"),
        (3599, "1 h 0 min"),
        (3600, "1 h 0 min"),
        (1e7, "2,777 h 47 min"),
    ],
)
def test_times_are_told_in_units_for_people(seconds, words):
    assert duration(seconds) == words
