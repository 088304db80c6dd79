"""No log lines for a while, ours or transformers'."""

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


@contextmanager
def silence_transformers() -> Iterator[None]:
    """Without transformers' bars and its table of missing weights: what may lack is new, all else is our error."""
    from transformers.utils import logging as transformers_logging

    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
