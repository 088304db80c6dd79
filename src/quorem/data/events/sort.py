"""From files of events to sequences on the disc: grouped by user, sorted by time, cut at pauses, counted.

    sequences    a line each: time of its first event (microseconds), its place among all events, its user, its items,
                 with \\x1f between the four and tabs between items; in the order of those times and places
    facts.json   what was read, used and dropped, and why; what it was made from

duckdb sorts, in bounded memory, and spills to the disc: the events are never in memory together. Ties in time stay in
the order of the files. The folder appears whole or not at all.
"""

import json
import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from quorem.data.events.engine import Engine, connect
from quorem.data.events.rows import Rows, literal, readable
from quorem.config.events import parse_span
from quorem.data.events.times import UNITS, kind_of, microseconds
from quorem.errors import UserError
from quorem.files import whole_folder, write_text

logger = logging.getLogger(__name__)

SEQUENCES, FACTS = "sequences", "facts.json"
BETWEEN = "\x1f"  # of a line's parts; no id has control characters
MESSAGES = 1_000  # of bad rows, at most
IN_PARALLEL = "Parallel CSV Reader"  # of what duckdb says where only one thread can read a file
BLOCK = 2**22  # bytes
EMPTY, WRONG, NO_TIME, CONTROL, MIXED = 1, 2, 3, 4, 5  # why a row is not used


@dataclass(frozen=True)
class EventFacts:
    """What a sorted log is.

    Attributes:
        read: events, bad ones too.
        used: those in sequences; with `dropped` and `bad` they add up to `read`.
        dropped: how many were left out, by the reason.
        bad: that could not be read.
        messages: what is wrong with the first of them.
        sequences: lines.
        users: that have one.
        last: the time of the last event in microseconds, None without times.
        spaced: an item with a space and its place, None if there is none.
        made_from: what decides all that.
    """

    read: int
    used: int
    dropped: dict[str, int]
    bad: int
    messages: list[str]
    sequences: int
    users: int
    last: int | None
    spaced: str | None
    made_from: dict[str, Any] = field(default_factory=dict)


def read_facts(folder: Path) -> EventFacts | None:
    """What a folder of a sorted log says of it, None if there is none."""
    try:
        return EventFacts(**json.loads((folder / FACTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def sort_events(
    folder: Path, files: Sequence[tuple[Path, Rows]], data: Any, *, made_from: dict[str, Any], latest: bool = False
) -> EventFacts:
    """Write the sequences of files into a folder.

    Args:
        folder: where; what stands there is replaced when the new one is whole.
        files: in order, with their rows.
        data: settings of section data: bad_rows, session_gap, min_item_events and min_events.
        made_from: what to store.
        latest: whether of each user the last sequence alone is kept.

    Raises:
        UserError: for a bad row unless they are skipped, or if no event can be used.
    """
    with whole_folder(folder) as partial:
        work = partial / "work"
        work.mkdir()
        with connect(work) as engine:
            facts = _Sorter(engine, partial, files, data).sort(made_from, latest=latest)
        for left in sorted(work.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        work.rmdir()
        write_text(partial / FACTS, json.dumps(asdict(facts)))
    return facts


class _Sorter:
    """One log on its way.

    Its table `events` has a row for each that could be cut into columns, in file order: u, i (VARCHAR), t
    (microseconds), k (a key of UNITS), b (why it is not used, 0 if it is) and x (of a bad one, what is wrong).
    """

    def __init__(self, engine: Engine, folder: Path, files: Sequence[tuple[Path, Rows]], data: Any) -> None:
        self.engine, self.folder, self.files, self.data = engine, folder, files, data
        self.name = str(files[0][0]) + (f" and {len(files) - 1} more" if len(files) > 1 else "")
        self.begins: list[int] = []  # rowid at which each file begins, and the end
        self.rejects: list[tuple[int, int, str]] = []  # the file's number, a line, what is wrong
        self.rejected = 0
        self.timed = all(rows.columns.time is not None for _, rows in files)
        if not self.timed and any(rows.columns.time is not None for _, rows in files):
            lacking = next(path for path, rows in files if rows.columns.time is None)
            raise UserError(f"{lacking}: has no column of times, where other files have one: set data.time_column")

    def sort(self, made_from: dict[str, Any], *, latest: bool) -> EventFacts:
        """All steps."""
        self._ingest()
        dropped, bad, messages, last = self._counted()
        spaced = self._spaced()
        self._tell_floats()
        self._order()
        pieces, users = self._merge(latest)
        longest = max(2**21, pieces["longest"] + 2**16)
        self.engine.run(
            f"COPY (SELECT * FROM read_csv({literal(str(self.folder / 'work' / 'merged'))}, auto_detect=false, "
            f"header=false, delim='{BETWEEN}', quote='', escape='', columns={{t: 'BIGINT', r: 'BIGINT', u: 'VARCHAR', "
            f"i: 'VARCHAR'}}, parallel=false, max_line_size={longest}, buffer_size={4 * longest}) "
            f"ORDER BY t, r) TO {literal(str(self.folder / SEQUENCES))} (FORMAT csv, HEADER false, DELIMITER "
            f"'{BETWEEN}', QUOTE '', ESCAPE '')",
            self.name,
        )
        dropped |= {name: pieces[name] for name in ("of short sequences", "of earlier sequences") if pieces[name]}
        read = self.begins[-1] + self.rejected
        used = pieces["used"]
        if read != used + bad + sum(dropped.values()):
            raise RuntimeError(f"{read} events read, {used} used, {bad} bad, dropped: {dropped}")
        if not used:
            why = ", ".join(f"{number:,} {what}" for what, number in dropped.items())
            raise UserError(f"{self.name}: none of its {read:,} events can be used ({why or 'it has none'})")
        return EventFacts(
            read, used, dropped, bad, messages, pieces["sequences"], users, last, spaced, made_from
        )  # fmt: skip

    # ---- reading

    def _ingest(self) -> None:
        self.engine.run(
            "CREATE TABLE events (u VARCHAR, i VARCHAR, t BIGINT, k UTINYINT, b UTINYINT, x VARCHAR)", self.name
        )
        for number, (path, rows) in enumerate(self.files):
            self.begins.append(self._rows())
            time = "trim(t)"
            if rows.columns.time is None:
                kind, micros, no_time = "0", "0", "false"
            else:
                kind, micros, no_time = kind_of("t"), microseconds("t", "k"), "k IS NULL"
            control = r"regexp_matches(u || i, '[\x00-\x1f\x7f]')"
            query = (
                f"INSERT INTO events SELECT u, i, {micros}, k, b, CASE WHEN b = {NO_TIME} THEN t WHEN b = {CONTROL} THEN "
                f"u || ' ' || i WHEN b = {WRONG} THEN w END FROM (SELECT *, CASE WHEN w IS NOT NULL THEN {WRONG} "
                f"WHEN u IS NULL OR i IS NULL OR u = '' OR i = '' THEN {EMPTY} WHEN {no_time} THEN {NO_TIME} "
                f"WHEN {control} THEN {CONTROL} ELSE 0 END b FROM (SELECT *, {kind} k FROM (SELECT trim(u) u, trim(i) i, "
                f"{time} t, w FROM ({rows.query}))))"
            )
            with readable(path, self.folder / "work") as place:
                try:
                    self.engine.run(query, path, [place])
                except UserError as error:
                    if IN_PARALLEL not in str(error):
                        raise
                    self._forget_rejects(path)
                    self.engine.run(query.replace("store_rejects", "parallel=false, store_rejects"), path, [place])
            self._reject(number, path)
        self.begins.append(self._rows())
        logger.info("%s: %s events read, sorting them", self.name, f"{self.begins[-1] + self.rejected:,}")

    def _rows(self) -> int:
        return int(self.engine.one("SELECT count(*) FROM events", self.name)[0])

    def _reject(self, number: int, path: Path) -> None:
        """Take note of lines of a file that are no rows."""
        tables = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"
        if not self.engine.one(tables, path)[0]:
            return
        total, opened = self.engine.one(
            "SELECT count(DISTINCT line), count(*) FILTER (error_message LIKE '%unterminated quote%') FROM reject_errors",
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
        if self.data.bad_rows == "error":
            raise UserError(texts[0][1])
        if opened:
            raise UserError(f"{texts[-1][1]}, and no row after it can be told: set data.quoting=none if quotes are text")
        self.rejected += total
        self.rejects += [(number, line, text) for line, text in texts]

    def _forget_rejects(self, path: Path) -> None:
        for table in ("reject_errors", "reject_scans"):
            if self.engine.one(f"SELECT count(*) FROM duckdb_tables() WHERE table_name = '{table}'", path)[0]:
                self.engine.run(f"DELETE FROM {table}", path)

    # ---- counting

    def _counted(self) -> tuple[dict[str, int], int, list[str], int | None]:
        """Events left out by the reason, how many are bad, what is wrong with the first, and the last time."""
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
        numbers = dict(self.engine.run("SELECT b, count(*) FROM events GROUP BY b", self.name).fetchall())
        bad = self.rejected + sum(number for why, number in numbers.items() if why > EMPTY)
        rows = self.engine.run(
            f"SELECT rowid, b, x, t, k FROM events WHERE b > {EMPTY} ORDER BY rowid LIMIT {MESSAGES}", self.name
        ).fetchall()
        messages = sorted([*self.rejects, *(self._message(*row) for row in rows)])[:MESSAGES]
        if messages and self.data.bad_rows == "error":
            raise UserError(messages[0][2])
        last = self.engine.one("SELECT max(t) FROM events WHERE b = 0", self.name)[0] if self.timed else None
        dropped = {"empty": numbers[EMPTY]} if numbers.get(EMPTY) else {}
        least = self.data.min_item_events
        if least > 1:
            self.engine.run(
                f"CREATE TABLE kept AS SELECT i FROM (SELECT {_id('i')} i FROM events WHERE b = 0) GROUP BY i HAVING "
                f"count(*) >= {least}",
                self.name,
            )
            query = f"SELECT count(*) FROM events WHERE b = 0 AND {_id('i')} NOT IN (SELECT i FROM kept)"
            if rare := self.engine.one(query, self.name)[0]:
                dropped["of rare items"] = rare
        return dropped, bad, [message for _, _, message in messages], last

    def _message(self, rowid: int, why: int, found: str | None, time: int | None, kind: int | None) -> tuple[int, int, str]:
        file, row = self._place(rowid)
        path, rows = self.files[file]
        if why == WRONG:
            what = str(found)
        elif why == NO_TIME:
            value = repr(found) if found else "empty"
            what = f"data.time_column={rows.columns.time} is {value}: Unix seconds to nanoseconds, or ISO 8601, needed"
        elif why == CONTROL:
            what = f"{found!r} has a tab, a line break or another control character, which no id may have"
        else:
            what = f"its time is in {UNITS[int(kind or 0)]}, most others are not: a log has times of one kind ({found})"
        return file, row + rows.above, f"{path}, row {row}: {what}"

    def _place(self, rowid: int) -> tuple[int, int]:
        """The number of the file, and the 1-based row in it, of an event."""
        file = next(file for file, (_, end) in enumerate(pairwise(self.begins)) if rowid < end)
        row = rowid - self.begins[file] + 1
        above = self.files[file][1].above
        for number, line, _ in self.rejects:
            if number == file and line - above <= row:
                row += 1
        return file, row

    def _spaced(self) -> str | None:
        found = self.engine.one(
            r"SELECT rowid, i FROM events WHERE b = 0 AND regexp_matches(i, '[\s\p{Z}\x{85}]') ORDER BY rowid LIMIT 1",
            self.name,
        )
        if found is None:
            return None
        file, row = self._place(found[0])
        return f"{self.files[file][0]}, row {row}: item {found[1]!r}"

    def _tell_floats(self) -> None:
        for column, what in (("u", "users"), ("i", "items")):
            query = f"SELECT count(*), min({column}) FROM events WHERE b = 0 AND {_is_float(column)}"
            number, example = self.engine.one(query, self.name)
            if number:
                logger.info(
                    "%s: %s %s such as %s are read without the .0 that a spreadsheet gave them",
                    self.name, f"{number:,}", what, example,
                )  # fmt: skip

    # ---- sorting

    def _order(self) -> None:
        """Write the events by user and time, a line each; those that go on with a sequence begin with a tab."""
        kept = f"AND {_id('i')} IN (SELECT i FROM kept)" if self.data.min_item_events > 1 else ""
        by = "u, t, r" if self.timed else "u, r"
        self.engine.run(
            f"CREATE TABLE sorted AS SELECT {_id('u')} u, {_id('i')} i, t, rowid r FROM events WHERE b = 0 {kept} "
            f"ORDER BY {by}",
            self.name,
        )
        self.engine.run("DROP TABLE events", self.name)
        gap = ""
        if self.data.session_gap is not None:
            gap = f" OR t - before > {parse_span('data.session_gap', self.data.session_gap)}"
        self.engine.run(
            f"COPY (SELECT CASE WHEN u IS DISTINCT FROM other{gap} THEN t || '{BETWEEN}' || r || '{BETWEEN}' || u || "
            f"'{BETWEEN}' || i ELSE chr(9) || i END FROM (SELECT *, lag(u) OVER () other, lag(t) OVER () before FROM sorted)"
            f") TO {literal(str(self.folder / 'work' / 'lines'))} (FORMAT csv, HEADER false, DELIMITER '\x02', QUOTE '', "
            "ESCAPE '')",
            self.name,
        )
        self.engine.run("DROP TABLE sorted", self.name)

    def _merge(self, latest: bool) -> tuple[dict[str, int], int]:
        """Write the sequences by user, those that are long enough; their counts, and the number of users."""
        counts = dict.fromkeys(("used", "sequences", "longest", "of short sequences", "of earlier sequences"), 0)
        users, user, held = 0, b"", b""

        def write(line: bytes) -> None:
            merged.write(line + b"\n")
            counts["used"] += line.count(b"\t") + 1
            counts["sequences"] += 1
            counts["longest"] = max(counts["longest"], len(line))

        lines = self.folder / "work" / "lines"
        with (self.folder / "work" / "merged").open("wb") as merged:
            for line in _joined(lines):
                number = line.count(b"\t") + 1
                if number < self.data.min_events:
                    counts["of short sequences"] += number
                    continue
                whose = line.split(BETWEEN.encode(), 3)[2]
                same = whose == user and users > 0
                users, user = users + (not same), whose
                if not latest:
                    write(line)
                    continue
                if held and same:
                    counts["of earlier sequences"] += held.count(b"\t") + 1
                elif held:
                    write(held)
                held = line
            if held:
                write(held)
        lines.unlink()
        return counts, users


def _joined(path: Path) -> Iterator[bytes]:
    """The lines of a file, with those that begin with a tab joined to the ones before."""
    rest = b""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            *whole, rest = (rest + block).replace(b"\n\t", b"\t").split(b"\n")
            if whole and not rest:  # what begins the next block may belong to the last line
                rest = whole.pop() + b"\n"
            yield from whole
    yield from filter(None, rest.split(b"\n"))


def _is_float(column: str) -> str:
    return f"({column} LIKE '%.0' AND regexp_full_match({column}, '-?[0-9]+\\.0'))"


def _id(column: str) -> str:
    """An id, without the .0 of a spreadsheet's numbers."""
    return f"CASE WHEN {_is_float(column)} THEN left({column}, -2) ELSE {column} END"


def _reason(message: str, kind: str) -> str:
    if "Expected Number of Columns" in message:
        return re.sub(r".*Expected Number of Columns: (\d+) Found: (\d+).*", r"\2 columns, \1 expected", message)
    return message.splitlines()[0].rstrip(".") if message else kind.lower()
