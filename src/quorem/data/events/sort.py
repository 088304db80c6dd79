r"""From files of events to sequences on the disc: grouped by user, sorted by time, cut at pauses, counted.

    sequences    a line each: time of its first event (microseconds), its place among all events, its user, its items,
                 with \x1f between the four and tabs between items; in the order of those times and places
    facts.json   what was read, used and dropped, and why; what it was made from

duckdb sorts, in bounded memory, and spills to the disc: the events are never in memory together. Ties in time stay in
the order of the files. The folder appears whole or not at all.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quorem.config.events import parse_span
from quorem.data.events.engine import Engine, connect
from quorem.data.events.intake import EMPTY, Intake
from quorem.data.events.rows import Rows, literal
from quorem.errors import UserError
from quorem.files import whole_folder, write_text

logger = logging.getLogger(__name__)

SEQUENCES, FACTS = "sequences", "facts.json"
BETWEEN = "\x1f"  # of a line's parts; no id has control characters
BLOCK = 2**22  # bytes


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
        data: settings of section data: bad_rows, session_gap, min_item_events, min_events and, where it has one,
            test_period.
        made_from: what to store.
        latest: whether of each user the last sequence alone is kept.

    Raises:
        UserError: for a bad row unless they are skipped, or if no event can be used.
    """
    with whole_folder(folder) as partial:
        work = partial / "work"
        work.mkdir()
        with connect(work) as engine:
            taken = Intake(engine, work, files, skip=data.bad_rows == "skip")
            facts = _Sorter(engine, partial, taken, data).sort(made_from, latest=latest)
        for left in sorted(work.rglob("*"), reverse=True):
            left.rmdir() if left.is_dir() else left.unlink()
        work.rmdir()
        write_text(partial / FACTS, json.dumps(asdict(facts)))
    return facts


class _Sorter:
    """One log on its way from the table of its events to its sequences."""

    def __init__(self, engine: Engine, folder: Path, taken: Intake, data: Any) -> None:
        self.engine, self.folder, self.taken, self.name, self.data = engine, folder, taken, taken.name, data

    def sort(self, made_from: dict[str, Any], *, latest: bool) -> EventFacts:
        """All steps."""
        bad, messages = self.taken.bad()
        empty, last = self.engine.one(
            f"SELECT count(*) FILTER (b = {EMPTY}), max(t) FILTER (b = 0) FROM events", self.name
        )
        dropped, spaced = {"empty": empty, "of rare items": self._rare(last)}, self._spaced()
        self._log_floats()
        self._order()
        pieces, users = self._merge(latest)
        self._order_sequences(pieces["longest"])
        dropped |= {name: pieces[name] for name in ("of short sequences", "of earlier sequences")}
        dropped = {name: number for name, number in dropped.items() if number}
        read, used = self.taken.read, pieces["used"]
        if read != used + bad + sum(dropped.values()):
            raise RuntimeError(f"{read} events read, {used} used, {bad} bad, dropped: {dropped}")
        if not used:
            why = ", ".join(f"{number:,} {what}" for what, number in dropped.items())
            raise UserError(f"{self.name}: none of its {read:,} events can be used ({why or 'it has none'})")
        return EventFacts(
            read, used, dropped, bad, messages, pieces["sequences"], users, last if self.taken.timed else None, spaced,
            made_from,
        )  # fmt: skip

    # ---- counting

    def _rare(self, last: int | None) -> int:
        """How many events are of items with too few, those of a test period not counted; `kept` has the other items."""
        least, period, before = self.data.min_item_events, getattr(self.data, "test_period", None), ""
        if least == 1:
            return 0
        if period is not None and self.taken.timed and last is not None:
            before = f"AND t <= {last - parse_span('data.test_period', period)}"
        self.engine.run(
            f"CREATE TABLE kept AS SELECT i FROM (SELECT {_id('i')} i FROM events WHERE b = 0 {before}) GROUP BY i "
            f"HAVING count(*) >= {least}",
            self.name,
        )
        if before and not self.engine.one(f"SELECT count(*) FROM events WHERE b = 0 {before}", self.name)[0]:
            raise UserError(f"{self.name}: all events are of the last data.test_period={period}: shorten it")
        query = f"SELECT count(*) FROM events WHERE b = 0 AND {_id('i')} NOT IN (SELECT i FROM kept)"
        return int(self.engine.one(query, self.name)[0])

    def _spaced(self) -> str | None:
        found = self.engine.one(
            r"SELECT rowid, i FROM events WHERE b = 0 AND regexp_matches(i, '[\s\p{Z}\x{85}]') ORDER BY rowid LIMIT 1",
            self.name,
        )
        if found is None:
            return None
        return f"{self.taken.place(found[0])}: item {found[1]!r}"

    def _log_floats(self) -> None:
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
        by = "u, t, r" if self.taken.timed else "u, r"
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
            f"'{BETWEEN}' || i ELSE chr(9) || i END FROM (SELECT *, lag(u) OVER () other, lag(t) OVER () before FROM "
            f"sorted)) TO {literal(str(self.folder / 'work' / 'lines'))} (FORMAT csv, HEADER false, DELIMITER '\x02', "
            "QUOTE '', ESCAPE '')",
            self.name,
        )
        self.engine.run("DROP TABLE sorted", self.name)

    def _order_sequences(self, longest: int) -> None:
        """Write the sequences in the order of their first events."""
        longest = max(2**21, longest + 2**16)
        self.engine.run(
            f"COPY (SELECT * FROM read_csv({literal(str(self.folder / 'work' / 'merged'))}, auto_detect=false, "
            f"header=false, delim='{BETWEEN}', quote='', escape='', columns={{t: 'BIGINT', r: 'BIGINT', u: 'VARCHAR', "
            f"i: 'VARCHAR'}}, parallel=false, max_line_size={longest}, buffer_size={4 * longest}) ORDER BY t, r) TO "
            f"{literal(str(self.folder / SEQUENCES))} (FORMAT csv, HEADER false, DELIMITER '{BETWEEN}', QUOTE '', "
            "ESCAPE '')",
            self.name,
        )

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
