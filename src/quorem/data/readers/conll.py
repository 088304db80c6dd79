"""Stream sentences from a CoNLL file: a word in each line with its tag, a blank line between two sentences.

Guarantees: one sentence is in memory at a time; columns are split at tabs where a line has one, else at spaces; the
word is the first column, the tag the last. Lines that begin with -DOCSTART- are no words. A sentence with a line that
cannot be read, or that has other columns than the first, is bad: an error with its line, or skipped and counted.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.table import Column, ColumnNames, Table, TableRow

DOCUMENT_START = "-DOCSTART-"


@dataclass(slots=True)
class Sentence(TableRow):
    """A sentence.

    Attributes:
        lines: the fields of each word's line.
    """

    lines: Sequence[list[str]] = ()

    def values(self, names: Sequence[str]) -> Sequence[Any]:
        """Its words, and its tags, None where a line has one column."""
        words, tags = [fields[0] for fields in self.lines], [fields[-1] for fields in self.lines]
        return [words, tags if self.lines and len(self.lines[0]) > 1 else None]


def open_conll(
    path: Path, names: ColumnNames, *, counts: RowCounts | None = None, encoding: str | None = None
) -> Table:
    """The sentences of a CoNLL file as a table with the columns tokens and tags, each a list.

    A document's text is the JSON list of its words, its `more` that list and the JSON list of its tags; its row is the
    number of its first line.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        names: whether further columns are read, for `more`; what they are called does not count.
        counts: a tally that is to know how much of the file is read.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.
    """
    return Table(None, (Column("tokens"), Column("tags")), _sentences(path, encoding, counts, more=bool(names.more)))


def _sentences(
    path: Path, encoding: str | None, counts: RowCounts | None, *, more: bool
) -> Iterator[TableRow | BadRow]:
    begun: list[list[str]] = []
    start, width, bad = 0, 0, list[BadRow]()
    for number, line in chain(numbered_lines(path, encoding, counts), [(0, "")]):
        if isinstance(line, BadRow):
            bad.append(line)
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        if fields and fields[0].strip() and fields[0] != DOCUMENT_START:
            width, start = width or len(fields), start or number
            if len(fields) != width:
                bad.append(BadRow(f"{path}, line {number}: {len(fields)} columns, where {width} are needed, as above"))
            begun.append(fields)
        elif bad or begun:
            yield bad[0] if bad else _sentence(start, begun, more=more)
            begun, start, bad = [], 0, []


def _sentence(number: int, lines: list[list[str]], *, more: bool) -> Sentence:
    sentence = Sentence(number, lines=lines)
    words, tags = (None if column is None else json.dumps(column, ensure_ascii=False) for column in sentence.values(()))
    sentence.text, sentence.more = words, (words, tags) if more else ()
    return sentence
