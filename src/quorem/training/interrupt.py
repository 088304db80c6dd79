"""Interrupts during training: the first one stops after the step, a second one stops at once."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)
PASSED_ON = 5.0
"""Seconds in which a launched process may get a signal twice: it is sent to all, and the launcher passes it on."""


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """While entered, SIGTERM raises KeyboardInterrupt as Ctrl-C does, unless it is ignored or has another handler."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Stopped(Exception):
    """A run was asked to stop and has written a checkpoint to resume from; the command line exits with code 0."""


class Interrupts:
    """While it is entered, SIGINT and SIGTERM set `asked`, and a second one does what it did before.

    In another thread than the main one, where Python lets nobody handle signals, it changes nothing; nor do signals
    that are ignored, as SIGINT is behind nohup.
    """

    def __init__(self) -> None:
        self.asked = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._ask) for number in heard}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._give_back()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.asked, self._since = True, time.monotonic()
            name = signal.Signals(number).name
            logger.warning("%s: stopping with a checkpoint after this step; another one stops at once", name)
        elif "RANK" not in os.environ or time.monotonic() - self._since > PASSED_ON:
            self._give_back()
            signal.raise_signal(number)

    def _give_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before = {}
