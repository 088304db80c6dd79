"""duckdb, the engine that sorts events on the disc: opened with bounds, and its errors in one line."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from quorem.errors import UserError

MEMORY = "900MB"
"""What the engine may hold: a log of any size is sorted in pieces of it, and the rest lies on the disc."""
MOST_THREADS = 4  # each has buffers of its own


class Engine:
    """A connection.

    Args:
        connection: duckdb's.
        error: the base of duckdb's errors.
    """

    def __init__(self, connection: Any, error: type[Exception]) -> None:
        self._connection, self._error = connection, error

    def run(self, query: str, path: Path | str, parameters: list[Any] | None = None) -> Any:
        """Run a statement.

        Args:
            query: SQL.
            path: what it reads, for messages.
            parameters: of the statement.

        Returns:
            The connection, with the result to fetch.

        Raises:
            UserError: if the engine cannot, in one line.
        """
        try:
            return self._connection.execute(query, parameters)
        except self._error as error:
            words = re.sub(r"^[A-Za-z ]*Error: ", "", str(error).strip())
            raise UserError(f"{path}: the events cannot be read or sorted ({' '.join(words.split())[:400]})") from error

    def one(self, query: str, path: Path | str) -> Any:
        """The only row of a result."""
        return self.run(query, path).fetchone()


@contextmanager
def connect(work: Path | None) -> Iterator[Engine]:
    """The engine; its memory is given back at the end.

    Args:
        work: an empty folder for what does not fit in memory; None if nothing is kept.

    Raises:
        UserError: if duckdb is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise UserError("logs of events are sorted by duckdb: pip install 'quorem[events]'") from error
    config = {
        "memory_limit": MEMORY,
        "threads": min(os.cpu_count() or 1, MOST_THREADS),
        "temp_directory": str(work / "spill") if work is not None else "",
        "autoinstall_known_extensions": "false",  # nothing is ever fetched
        "autoload_known_extensions": "false",
        "preserve_insertion_order": "true",  # ties in time stay in the order of the files
    }
    connection = duckdb.connect(str(work / "events.db") if work is not None else ":memory:", config=config)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        with suppress(duckdb.InvalidInputException):  # in a notebook without ipywidgets, which has no bar anyway
            connection.execute("SET enable_progress_bar = false")
        yield Engine(connection, duckdb.Error)
    finally:
        connection.close()
