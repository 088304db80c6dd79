"""Log lines that are written once, although settings and files are read several times."""

import logging
from functools import cache


@cache
def log_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log a message; the same one again is not logged."""
    logger.log(level, message)
