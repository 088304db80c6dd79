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
from quorem.data.documents import Document, RowCounts
from quorem.data.readers.lines import numbered_lines
from quorem.data.readers.table import Column, Table, TableRow
from quorem.data.readers.tally import Row, to_documents
from quorem.errors import UserError

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


def read_conll(
    path: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    counts: RowCounts | None = None,
    more_columns: Sequence[str] = (),
    bad_rows: str = "error",
    encoding: str | None = None,
) -> Iterator[Document]:
    """The sentences of a CoNLL file, in file order; deterministic.

    A document's text is the JSON list of its words, its `more` that list and the JSON list of its tags; its row is the
    number of its first line.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        text_column: must be None: the columns have no names.
        label_column: must be None.
        counts: a tally to keep up to date while streaming; a sentence is a row.
        more_columns: names that do not count; without any, `more` is empty.
        bad_rows: error, or skip: a bad sentence is left out and counted.
        encoding: a Python codec; None for UTF-8. A byte order mark goes before it.

    Raises:
        UserError: at the call if the file is missing, a folder or unreadable; while streaming for a bad sentence unless
            they are skipped, and at the end if there is none that can be used.
    """
    path = Path(path)
    for column in (text_column, label_column):
        if column is not None:
            raise UserError(f"{path} is read as CoNLL: its columns have no names, so leave {column!r} out")
    sentences = _sentences(path, encoding, counts)
    first = next(sentences, None)  # here, so that a missing file is found at the call
    rows = (_row(each, more=bool(more_columns)) for each in chain([first] if first else [], sentences))
    return to_documents(
        path, rows, counts=counts, bad_rows=bad_rows, unusable="sentences have no word: write a word in each line.",
        empty="has no sentence: write a word in each line.",
    )  # fmt: skip


def read_conll_table(path: str | Path, *, text_column: str | None = None, encoding: str | None = None) -> Table:
    """A CoNLL file as a table with the columns tokens and tags, each a list.

    Args:
        path: the file.
        text_column: must be None: the columns have no names.
        encoding: as in `read_conll`.

    Raises:
        UserError: at the call for a column, and if the file is missing, a folder or unreadable.
    """
    path = Path(path)
    if text_column is not None:
        raise UserError(f"{path} is read as CoNLL: its columns have no names, so leave {text_column!r} out")
    sentences = _sentences(path, encoding)
    first = next(sentences, None)
    rows = chain([first] if first else [], sentences)
    return Table(None, (Column("tokens"), Column("tags")), rows)


def _row(sentence: Sentence | BadRow, *, more: bool) -> Row | BadRow:
    if isinstance(sentence, BadRow):
        return sentence
    tags = sentence.values(())[1]
    written = sentence.text, None if tags is None else json.dumps(tags, ensure_ascii=False)
    return Row(sentence.number, sentence.text, more=written if more else ())


def _sentences(path: Path, encoding: str | None, counts: RowCounts | None = None) -> Iterator[Sentence | BadRow]:
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
            text = json.dumps([each[0] for each in begun], ensure_ascii=False)
            yield bad[0] if bad else Sentence(start, text, lines=begun)
            begun, start, bad = [], 0, []
