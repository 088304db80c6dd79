"""How a CSV file is cut into fields: as the settings say, else as its name, its header and its quotes do."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from quorem.data.bad_rows import BadRow
from quorem.data.once import log_once
from quorem.data.readers.lines import Lines
from quorem.data.readers.records import (
    QUOTINGS,
    SEPARATOR_LINE,
    BrokenQuotes,
    Dialect,
    parse_records,
    read_records,
)
from quorem.errors import UserError, check_choice

logger = logging.getLogger(__name__)

DELIMITERS = (",", ";", "\t", "|")
SURVEYED = 500_000  # lines of a file in which its quotes are looked at
WELL_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def find_dialect(
    path: Path,
    columns: Sequence[str],
    *,
    delimiter: str | None = None,
    encoding: str | None = None,
    quoting: str = "auto",
    header: bool = True,
) -> Dialect:
    r"""How a file is read.

    Args:
        path: the file.
        columns: that its header should have; numbers where it has none.
        delimiter: the choice (data.delimiter; \t is a tab); None for that of a first line such as sep=;, else that of
            the file's name or, where the header split so lacks a column, the first of DELIMITERS with which it has
            them all. The latter is logged.
        encoding: of the file.
        quoting: a key of QUOTINGS, or auto: standard, unless the file's quotes can be nothing but text, or stand behind
            backslashes. The latter is logged.
        header: whether the first row names the columns.

    Raises:
        UserError: for a choice that cannot be, and what `read_records` raises at the call.
    """
    check_choice("data.quoting", quoting, ("auto", *QUOTINGS))
    chosen, declared = _checked(delimiter), _declared(path, encoding)
    first_guess = "standard" if quoting == "auto" else quoting
    known = Dialect(chosen or declared or delimiter_of(path), first_guess, header, declared is not None)
    if not (chosen or declared):
        known = _with_delimiter(path, known, columns, encoding)
    if quoting != "auto":
        return known
    status = path.stat()
    found = _find_quoting(path, known, encoding, (status.st_mtime_ns, status.st_size))
    if found != known.quoting:
        what = {"none": "its quotes are read as text", "backslash": "its quotes are read as escaped by backslashes"}
        log_once(
            logger,
            logging.WARNING,
            f"{path}: {what[found]} (data.quoting={found}), for as quotes around fields they do not balance; "
            "data.quoting=standard reads them as such all the same",
        )
    return replace(known, quoting=found)


def delimiter_of(path: Path) -> str:
    """What separates the fields of a file of that name: a tab for .tsv, else a comma."""
    return "\t" if ".tsv" in path.name.lower() else ","


def _checked(delimiter: str | None) -> str | None:
    if delimiter is None:
        return None
    chosen = "\t" if delimiter == "\\t" else delimiter
    if len(chosen) != 1 or chosen in '"\r\n\0' or "\ud800" <= chosen <= "\udfff":
        raise UserError(
            f"data.delimiter={delimiter!r}: one character is needed, and no quote or line break, such as , ; | or \\t"
        )
    return chosen


def _declared(path: Path, encoding: str | None) -> str | None:
    """The delimiter that a spreadsheet's first line names, as in sep=;, or None."""
    try:
        found = SEPARATOR_LINE.fullmatch(next(Lines(path, encoding), ""))
    except BadRow:
        return None
    return None if found is None or found[1] in '"\r\n' else found[1]


def _with_delimiter(path: Path, named: Dialect, columns: Sequence[str], encoding: str | None) -> Dialect:
    """The dialect, or one of another delimiter if only so the header has the columns."""
    problem: UserError | None = None
    for delimiter in dict.fromkeys((named.delimiter, *DELIMITERS)):
        tried = replace(named, delimiter=delimiter)
        try:
            names, _ = read_records(path, tried, encoding)
        except UserError as error:  # a header that is broken when split so
            problem = error if delimiter == named.delimiter else problem
            continue
        if set(columns) <= set(names) and not (problem and len(names) < 2):
            if tried != named:
                message = f"{path}: split at {delimiter!r}, for so its header has the columns asked for"
                log_once(logger, logging.INFO, message)
            return tried
    if problem is not None:
        raise problem
    return named


# ---- quotes


@dataclass
class _Survey:
    """What a file's quotes look like.

    Attributes:
        rows: lines that are not blank.
        misfits: those that without quotes are no row.
        quoted: those with a field in quotes that are well-formed.
        doubled: whether a quote is doubled in such a field.
        escaped: whether a quote stands behind a backslash.
        in_header: whether the first line has quotes.
    """

    rows: int = 0
    misfits: int = 0
    quoted: int = 0
    doubled: bool = False
    escaped: bool = False
    in_header: bool = False


@lru_cache(maxsize=256)
def _find_quoting(path: Path, dialect: Dialect, encoding: str | None, version: tuple[int, int]) -> str:
    """A key of QUOTINGS: standard where nothing speaks for another.

    Args:
        path: the file.
        dialect: with everything but quoting.
        encoding: of the file.
        version: of the file, for the cache: a file is read several times.
    """
    if not any('"' in line for line in _lines(path, encoding)):
        return "standard"
    width = len(read_records(path, dialect, encoding)[0])
    broken, swallowed = _losses(path, dialect, encoding, width)
    if not broken and not swallowed:
        return "standard"
    found = _survey(path, dialect, encoding, width)
    if found.escaped and _losses(path, replace(dialect, quoting="backslash"), encoding, width) == (0, 0):
        return "backslash"
    # Whoever quotes fields quotes most rows, the header, or what needs it. A broken quote is an error and not a guess,
    # except between tabs, where files are often written without quoting; rows that vanish would be no error.
    if found.quoted * 2 >= found.rows or found.doubled or found.in_header:
        return "standard"
    bearable = found.misfits < broken + swallowed if dialect.delimiter == "\t" else swallowed and not found.misfits
    return "none" if bearable else "standard"


def _losses(path: Path, dialect: Dialect, encoding: str | None, width: int) -> tuple[int, int]:
    """How many rows of the first lines cannot be read, and how many vanish in others."""
    broken = swallowed = 0
    for record in parse_records(path, dialect, encoding):
        if isinstance(record, BadRow):
            broken += isinstance(record, BrokenQuotes)
            continue
        broken += len(record.fields) not in (0, width)
        if record.swallowed > 2:  # with a whole row strictly inside
            swallowed += record.swallowed - 1
        if record.last_line > SURVEYED:
            break
    return broken, swallowed


def _survey(path: Path, dialect: Dialect, encoding: str | None, width: int) -> _Survey:
    found = _Survey()
    for number, line in enumerate(_lines(path, encoding)):
        if not line.strip() or (dialect.declared and number == 0):
            continue
        found.rows += 1
        fields = line.rstrip("\r\n").split(dialect.delimiter)
        found.misfits += len(fields) != width
        if '"' not in line:
            continue
        quoted = [match[1] for match in map(WELL_QUOTED.fullmatch, fields) if match]
        found.quoted += bool(quoted)
        found.doubled |= any('"' in inside for inside in quoted)
        found.escaped |= '\\"' in line
        found.in_header |= dialect.header and found.rows == 1
    return found


def _lines(path: Path, encoding: str | None) -> Iterator[str]:
    """Those of the first lines that can be read."""
    lines = Lines(path, encoding)
    while lines.number < SURVEYED:
        try:
            yield next(lines)
        except StopIteration:
            return
        except BadRow:
            continue
