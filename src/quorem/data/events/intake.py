"""Files of events in the engine's table `events`, a row for each, with what is wrong with those that cannot be read."""

import logging
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from quorem.data.events.engine import Engine
from quorem.data.events.rows import Rows, literal, readable
from quorem.data.events.times import UNITS, kind_of, microseconds
from quorem.errors import UserError

logger = logging.getLogger(__name__)

MESSAGES = 1_000  # of bad rows, at most
EMPTY, WRONG, NO_TIME, CONTROL, MIXED = 1, 2, 3, 4, 5  # why a row is not used
IN_PARALLEL = "Parallel CSV Reader"  # of what duckdb says where only one thread can read a file


class Intake:
    """A log in the table `events`, in the order of its files and rows.

    Its columns are u and i (VARCHAR), user and item as they are written; t (BIGINT), microseconds, 0 without times; k,
    a key of UNITS; b, why a row is not used, 0 if it is; and x, of a bad one what is wrong. Its rowid is an
    event's place.

    Args:
        engine: with nothing in it.
        work: a folder for what is unpacked.
        files: in order, with their rows.
        skip: whether bad rows are left out instead of being an error.

    Attributes:
        name: of the log.
        timed: whether it has times.
        rejected: lines that could not be cut into columns.
        read: events, with those.

    Raises:
        UserError: for a file that cannot be read, or the first bad row unless they are skipped.
    """

    def __init__(self, engine: Engine, work: Path, files: Sequence[tuple[Path, Rows]], *, skip: bool) -> None:
        self.engine, self.work, self.files, self.skip = engine, work, files, skip
        self.name = str(files[0][0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.timed = all(rows.columns.time is not None for _, rows in files)
        if not self.timed and any(rows.columns.time is not None for _, rows in files):
            lacking = next(path for path, rows in files if rows.columns.time is None)
            raise UserError(f"{lacking}: has no column of times, where other files have one: set data.time_column")
        self.rejected = 0
        self._rejects: list[tuple[int, int, str]] = []  # the file's number, a line, what is wrong
        self._begins: list[int] = []  # rowid at which each file begins, and the end
        self.engine.run(
            "CREATE TABLE events (u VARCHAR, i VARCHAR, t BIGINT, k UTINYINT, b UTINYINT, x VARCHAR)", self.name
        )
        for number, (path, rows) in enumerate(files):
            self._begins.append(self._rows())
            self._take(path, rows)
            self._reject(number, path)
        self._begins.append(self._rows())
        self.read = self._begins[-1] + self.rejected
        logger.info("%s: %s events read, sorting them", self.name, f"{self.read:,}")
        self._mark_other_times()

    def bad(self) -> tuple[int, list[str]]:
        """How many rows are bad, and what is wrong with the first.

        Raises:
            UserError: if there are any, unless they are skipped.
        """
        number = self.engine.one(f"SELECT count(*) FROM events WHERE b > {EMPTY}", self.name)[0]
        rows = self.engine.run(
            f"SELECT rowid, b, x, k FROM events WHERE b > {EMPTY} ORDER BY rowid LIMIT {MESSAGES}", self.name
        ).fetchall()
        messages = sorted([*self._rejects, *(self._message(*row) for row in rows)])[:MESSAGES]
        if messages and not self.skip:
            raise UserError(messages[0][2])
        return self.rejected + number, [message for _, _, message in messages]

    def place(self, rowid: int) -> str:
        """The file and the row of an event, for messages."""
        file, row = self._place(rowid)
        return f"{self.files[file][0]}, row {row}"

    def _take(self, path: Path, rows: Rows) -> None:
        if rows.columns.time is None:
            kind, micros, no_time = "0", "0", "false"
        else:
            kind, micros, no_time = kind_of("t"), microseconds("t", "k"), "k IS NULL"
        control = r"regexp_matches(u || i, '[\x00-\x1f\x7f]')"
        query = (
            f"INSERT INTO events SELECT u, i, {micros}, k, b, CASE WHEN b = {NO_TIME} THEN t WHEN b = {CONTROL} "
            f"THEN u || ' ' || i WHEN b = {WRONG} THEN w END FROM (SELECT *, CASE WHEN w IS NOT NULL THEN {WRONG} "
            f"WHEN u IS NULL OR i IS NULL OR u = '' OR i = '' THEN {EMPTY} WHEN {no_time} THEN {NO_TIME} "
            f"WHEN {control} THEN {CONTROL} ELSE 0 END b FROM (SELECT *, {kind} k FROM (SELECT trim(u) u, trim(i) i, "
            f"trim(t) t, w FROM ({rows.query}))))"
        )
        with readable(path, self.work) as place:
            try:
                self.engine.run(query, path, [place])
            except UserError as error:
                if IN_PARALLEL not in str(error):
                    raise
                self._forget_rejects(path)
                self.engine.run(query.replace("store_rejects", "parallel=false, store_rejects"), path, [place])

    def _rows(self) -> int:
        return int(self.engine.one("SELECT count(*) FROM events", self.name)[0])

    def _reject(self, number: int, path: Path) -> None:
        """Take note of lines of a file that are no rows."""
        tables = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"
        if not self.engine.one(tables, path)[0]:
            return
        total, opened = self.engine.one(
            "SELECT count(DISTINCT line), count(*) FILTER (error_message LIKE '%unterminated quote%') FROM "
            "reject_errors",
            path,
        )
        if not total:
            return
        found = self.engine.run(
            "SELECT line, min(error_message), min(error_type), any_value(csv_line) FROM reject_errors GROUP BY line "
            f"ORDER BY line LIMIT {MESSAGES}",
            path,
        ).fetchall()
        self._forget_rejects(path)
        texts = [(line, f"{path}, line {line}: {_reason(message, kind)}") for line, message, kind, _ in found]
        if not self.skip:
            raise UserError(texts[0][1])
        if opened:
            raise UserError(
                f"{texts[-1][1]}, and no row after it can be read: set data.quoting=none if quotes are text"
            )
        self.rejected += total
        self._rejects += [(number, line, text) for line, text in texts]

    def _forget_rejects(self, path: Path) -> None:
        for table in ("reject_errors", "reject_scans"):
            if self.engine.one(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'", path)[0]:
                self.engine.run(f"DELETE FROM {table}", path)

    def _mark_other_times(self) -> None:
        """Mark events whose times are of another kind than most as bad."""
        kinds = self.engine.run("SELECT k, count(*) FROM events WHERE b = 0 GROUP BY k ORDER BY 2 DESC, 1", self.name)
        found = kinds.fetchall()
        if len(found) > 1:
            usual = found[0][0]
            others = ", ".join(UNITS[kind] for kind, _ in found[1:])
            self.engine.run(
                f"UPDATE events SET b = {MIXED}, x = {literal(f'{UNITS[usual]} and {others}')} WHERE b = 0 AND k <> "
                f"{usual}",
                self.name,
            )

    def _message(self, rowid: int, why: int, found: str | None, kind: int | None) -> tuple[int, int, str]:
        file, row = self._place(rowid)
        path, rows = self.files[file]
        if why == WRONG:
            what = str(found)
        elif why == NO_TIME:
            value = repr(found) if found else "empty"
            what = (
                f"data.time_column={rows.columns.time} is {value}: Unix seconds to nanoseconds, or ISO 8601, needed, "
                "such as 2024-01-31 18:05:00 (pandas.to_datetime makes it of other forms)"
            )
        elif why == CONTROL:
            what = f"{found!r} has a tab, a line break or another control character, which no id may have"
        else:
            what = f"its time is in {UNITS[int(kind or 0)]}, most others are not: a log has times of one kind ({found})"
        return file, row + rows.above, f"{path}, row {row}: {what}"

    def _place(self, rowid: int) -> tuple[int, int]:
        """The number of the file, and the 1-based row in it, of an event."""
        file = next(file for file, (_, end) in enumerate(pairwise(self._begins)) if rowid < end)
        row = rowid - self._begins[file] + 1
        above = self.files[file][1].above
        for number, line, _ in self._rejects:
            if number == file and line - above <= row:
                row += 1
        return file, row


def _reason(message: str, kind: str) -> str:
    if "Expected Number of Columns" in message:
        return re.sub(r".*Expected Number of Columns: (\d+) Found: (\d+).*", r"\2 columns, \1 expected", message)
    return message.splitlines()[0].rstrip(".") if message else kind.lower()
