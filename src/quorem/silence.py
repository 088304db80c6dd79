"""No log lines for a while."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silence() -> Iterator[None]:
    """Keep what quorem logs to itself, but for warnings and errors."""
    told = logging.getLogger("quorem")
    level = told.level
    told.setLevel(logging.WARNING)
    try:
        yield
    finally:
        told.setLevel(level)
