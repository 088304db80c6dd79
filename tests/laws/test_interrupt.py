"""Signals under a launcher, behind nohup, and outside of training."""

import os
import signal

import pytest

from quorem.guard import guarded
from quorem.training import interrupt
from quorem.training.interrupt import PASSED_ON, Interrupts


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    return now


def noticed(*_):
    raise InterruptedError


@pytest.fixture(autouse=True)
def others():
    before = {number: signal.signal(number, noticed) for number in interrupt.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_a_launcher_passes_on_is_no_second_signal(monkeypatch, clock):
    """The whole group is told, and the launcher tells its workers again: once is meant."""
    monkeypatch.setenv("RANK", "1")
    with Interrupts() as interrupts:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            clock[0] += PASSED_ON / 4
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.asked
        clock[0] += PASSED_ON
        with pytest.raises(InterruptedError):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(InterruptedError):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert not interrupts.asked
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.asked
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_outside_of_training_a_termination_says_how_to_go_on(capsys):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert guarded(lambda: os.kill(os.getpid(), signal.SIGTERM), again=["quorem"]) == 130
    assert "interrupted; the same command resumes" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
