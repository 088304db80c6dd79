"""Logs of events as documents: the items of a user or a session, in the order of time, with tabs between them.

A file has a row for each event, in any order; a user's may be spread over files. They are sorted on the disc
(quorem.data.events.sort) when the first document is asked for, and lie in the folder that is being prepared until it is
finished, or in a temporary one. Documents come in the order in which their first events happened, ties in that of the
files, whatever the number of threads.
"""

import json
import logging
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from quorem.config.events import NAMES, EventSettings, is_log, parse_span
from quorem.config.loading import check_bounds
from quorem.config.settings import ReadingSettings, TokenizerSettings
from quorem.data.bad_rows import BAD_ROWS
from quorem.data.dataset import rows_of
from quorem.data.documents import Document, RowCounts
from quorem.data.events.engine import connect
from quorem.data.events.rows import Rows, find_rows, names_of
from quorem.data.events.shapes import looks_like_events
from quorem.data.events.sort import BETWEEN, FACTS, SEQUENCES, EventFacts, read_facts, sort_events
from quorem.data.once import log_once
from quorem.data.source import Source, find_format
from quorem.errors import UserError, check_choice
from quorem.files import whole_file

logger = logging.getLogger(__name__)

ITEM_KINDS = ("items", "item_bpe")
EVENTS = "events"  # the folder of a sorted log, while its tokens are being prepared
USED = ("bad_rows", "delimiter", "quoting", "header")
"""Settings of reading that have a meaning for logs."""


class Sequence(NamedTuple):
    """A user's or a session's events.

    Attributes:
        user: as it stands in the files.
        begins: when the first happened, microseconds since 1970; 0 without times.
        items: with tabs between them.
    """

    user: str
    begins: int
    items: str


@dataclass(frozen=True)
class EventSource(Source):
    """Files with a row for each event.

    Attributes:
        data: settings of section data.
        place: the folder to sort into; None for a temporary one.
        latest: whether of each user the last sequence alone is read.
        split: whether documents say that they are train or test (data.test_period); else the test's are left out.
    """

    data: Any = None
    place: Path | None = None
    latest: bool = False
    split: bool = False
    own: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_log(cls, data: Any, *, latest: bool = False) -> "EventSource":
        """The source that settings describe; see `Source.of`.

        Raises:
            UserError: for settings or files that cannot be used.
        """
        files, chosen = find_format(data.path, data.format)
        if chosen == "midi":
            raise UserError(f"{files[0]}: a MIDI file is no log of events: leave data.item_column and data.events out")
        _check(data)
        made = {name: getattr(data, name) for name in (*NAMES, *USED)}
        default = ReadingSettings()
        options = {
            name: value for name, value in made.items()
            if value != getattr(EventSettings() if name in NAMES else default, name)
        }  # fmt: skip
        split = data.test_period is not None and hasattr(data, "test")  # next_item judges on them
        return cls(files, chosen, options=options | {"log": True}, data=data, split=split, latest=latest)

    @classmethod
    def of_rows(cls, rows: Iterable[Mapping[str, Any]], data: Any) -> "EventSource":
        """Mappings, one for each event, as a log: they are written to a temporary file of JSON Lines and read there.

        Raises:
            UserError: if there are none, or the settings cannot be used.
        """
        folder = _Folder()
        path = folder.path / "events.jsonl"
        with whole_file(path) as file:
            for row in rows_of(rows):
                file.write(json.dumps(dict(row), default=str).encode() + b"\n")
        source = cls.of_log(replace(data, path=str(path)))
        source.own["rows"] = folder
        return source

    def at(self, folder: Path, inputs: str) -> "EventSource":
        """The same, sorted into a folder beside what is prepared; `inputs` is the fingerprint."""
        return replace(self, place=folder / EVENTS, own=self.own | {"inputs": inputs})

    @property
    def user_column(self) -> str:
        """Of the first file."""
        return self._rows()[0][1].columns.user

    @property
    def by_file(self) -> bool:
        """Whether files can be read one without the other: users are spread over them."""
        return False

    def documents(self, counts: RowCounts | None = None) -> Iterator[Document]:
        """The documents, in order; see `Source.documents`.

        Raises:
            UserError: at the call for a missing file or column; while streaming for a bad row unless they are skipped.
        """
        self._rows()
        return self._documents(RowCounts() if counts is None else counts)

    def sequences(self) -> Iterator[Sequence]:
        """The sequences with their users, in the same order; a period of test does not count."""
        folder, _ = self._sorted()
        with (folder / SEQUENCES).open(encoding="utf-8", newline="\n") as file:
            for line in file:
                begins, _, user, items = line.rstrip("\n").split(BETWEEN, 3)
                yield Sequence(user, int(begins), items)

    def facts(self) -> EventFacts:
        """What the log has; it is sorted first if need be."""
        return self._sorted()[1]

    def share_read(self, counts: RowCounts) -> float | None:
        """How much is read, 0 to 1, by events; None before the log is sorted."""
        facts = self.own.get("facts")
        return None if facts is None else counts.read / max(1, facts.read)

    def _documents(self, counts: RowCounts) -> Iterator[Document]:
        facts = self.facts()
        counts.read += facts.bad + sum(facts.dropped.values())
        counts.skipped += facts.bad + sum(facts.dropped.values())
        counts.bad += facts.bad
        counts.messages += facts.messages
        counts.left_out |= {name: number for name, number in facts.dropped.items() if name != "empty"}
        counts.warnings["sequences"] = facts.sequences
        border = None
        if self.data.test_period is not None and facts.last is not None:
            border = facts.last - parse_span("data.test_period", self.data.test_period)
            if self.data.session_gap is None:
                log_once(
                    logger,
                    logging.WARNING,
                    f"{self}: data.test_period={self.data.test_period} without data.session_gap: histories that begin "
                    "before it are learned from whole, their events in it too: set data.session_gap",
                )
        held_out = 0
        for number, sequence in enumerate(self.sequences(), start=1):
            events = sequence.items.count("\t") + 1
            counts.read += events
            of_test = border is not None and sequence.begins > border
            if of_test and not self.split:
                held_out += events
                counts.skipped += events
                counts.left_out[f"of the last {self.data.test_period}"] = held_out
                continue
            counts.used += events
            yield Document(sequence.items, None, number, ("test" if of_test else "train") if self.split else None)
        if not counts.used:
            raise UserError(
                f"{self}: all sequences begin in the last data.test_period={self.data.test_period}: shorten it"
            )

    def _rows(self) -> list[tuple[Path, Rows]]:
        """The files and how they are read: their headers are looked at."""
        if "files" not in self.own:
            with connect(None):  # whether it is there
                pass
            found = [(file, find_rows(file, self.format, self.data)) for file in self.files]
            if found[0][1].columns.time is None:
                for name in ("session_gap", "test_period"):
                    if getattr(self.data, name) is not None:
                        raise UserError(
                            f"data.{name}={getattr(self.data, name)}: {found[0][0]} has no column of times: set "
                            "data.time_column=NAME"
                        )
            self.own["files"] = found
        return self.own["files"]

    def _sorted(self) -> tuple[Path, EventFacts]:
        """The folder of the sorted log, and what it has."""
        place = self.place
        if place is None:
            if "folder" not in self.own:
                self.own["folder"] = _Folder()
            place = self.own["folder"].path / EVENTS
        made_from = json.loads(json.dumps({
            "data": self.own.get("inputs"), "files": list(map(str, self.files)), "latest": self.latest, **self.options
        }))  # fmt: skip
        facts = self.own.get("facts")
        if facts is None or not (place / FACTS).exists():
            facts = read_facts(place)
            if facts is None or facts.made_from != made_from:
                facts = sort_events(place, self._rows(), self.data, made_from=made_from, latest=self.latest)
            self.own["facts"] = facts
        return place, facts

    def __hash__(self) -> int:
        return id(self)


class _Folder:
    """A temporary folder that is removed when nobody has it any more, or the program ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="quorem-events-"))
        weakref.finalize(self, shutil.rmtree, self.path, True)


def source_of(data: Any, *, text_column: str | None, split_column: str | None = None) -> Source:
    """The source that settings describe: a log of events, or files of texts (`Source.of`).

    Args:
        data: section data.
        text_column: of texts.
        split_column: of texts.

    Raises:
        UserError: for files or settings that cannot be used.
    """
    if is_log(data):
        return EventSource.of_log(data)
    return Source.of(data, text_column=text_column, split_column=split_column)


def check_items(source: Source, tokenizer: TokenizerSettings) -> None:
    """Refuse a tokenizer that would cut the ids of a log's items.

    Args:
        source: what is read; nothing is refused if it is no log.
        tokenizer: how it is to be made.

    Raises:
        UserError: if it would.
    """
    if not isinstance(source, EventSource) or tokenizer.path is not None:
        return
    if tokenizer.kind not in ITEM_KINDS:
        raise UserError(
            f"tokenizer.kind={tokenizer.kind}: {source} is a log of events, whose items must stay whole: add "
            "--tokenizer items"
        )
    if tokenizer.separator not in (None, "\t", "\\t"):
        raise UserError(
            f"tokenizer.separator={tokenizer.separator}: items of events have tabs between them: leave it out, or set "
            "\\t where items have spaces"
        )


def check_spaces(source: Source, *, cut: bool) -> None:
    """Refuse items with spaces where a tokenizer cuts at these; the log is sorted if need be.

    Args:
        source: what is read; nothing is refused if it is no log.
        cut: whether the tokenizer does.

    Raises:
        UserError: naming the first.
    """
    if cut and isinstance(source, EventSource) and (spaced := source.facts().spaced):
        raise UserError(f"{spaced} has a space, where it would be cut: pre-train with 'tokenizer.separator=\\t'")


def refuse_events_as_text(source: Source, kind: str) -> None:
    """Advise where a table with a row for each event would be read as texts.

    Args:
        source: what is read.
        kind: tokenizer.kind.

    Raises:
        UserError: if its column of texts is not there, but those of user, item and time are.
    """
    if kind not in ITEM_KINDS or source.format not in ("csv", "jsonl") or isinstance(source, EventSource):
        return
    try:
        names = names_of(source.files[0], source.format)
    except UserError:
        return  # whoever reads it says why
    if settings := looks_like_events(names):
        fix = (
            f"{source}: has a row for each event, it seems ({', '.join(names[:20])}): add "
            + " ".join(f"{key}={name}" for key, name in settings.items())
            + " to read it as one, and each user's items become a sequence"
        )
        if source.text_column not in names:
            raise UserError(fix)
        if source.text_column == settings["data.item_column"]:
            logger.warning("%s", fix)


def _check(data: Any) -> None:
    """Refuse settings that mean nothing for a log, or cannot be."""
    check_choice("data.bad_rows", data.bad_rows, BAD_ROWS)
    check_bounds(data, "data.")
    for name in ("session_gap", "test_period"):
        if getattr(data, name) is not None:
            parse_span(f"data.{name}", getattr(data, name))
    default = ReadingSettings()
    others = [name for name in ReadingSettings.options() if name not in USED]
    for name in (*others, "text_column", "split_column"):
        value = getattr(data, name, None)
        if value is not None and value != getattr(default, name, None):
            fix = "save the files as UTF-8" if name == "encoding" else "leave it out"
            raise UserError(f"data.{name}={value} has no meaning for a log of events (data.item_column): {fix}")
