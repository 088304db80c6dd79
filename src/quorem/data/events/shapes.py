"""Where a file of events has its users, items and times: by the settings, by its shape's name, or by usual names."""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from quorem.config.events import EventSettings, is_atomic
from quorem.data.bad_rows import BadRow
from quorem.data.readers.dialect import DELIMITERS, find_dialect
from quorem.data.readers.lines import Lines
from quorem.data.readers.records import Dialect, parse_records
from quorem.errors import UserError, check_choice, did_you_mean

QUOTED = re.compile(r'"[^"]*"')
USERS = ("user_id", "user", "uid", "customer_id", "visitor_id", "reviewer_id", "session_id", "session")
ITEMS = (
    "item_id", "item", "iid", "product_id", "product", "movie_id", "asin", "article_id", "track_id", "song_id",
    "news_id", "sku",
)  # fmt: skip
TIMES = ("timestamp", "time", "ts", "unix_review_time", "event_time", "datetime", "date", "created_at")
"""Usual names of columns; case, underscores and RecBole's kinds, as in user_id:token, do not count."""


class Shape(NamedTuple):
    """A known form of a log.

    Attributes:
        delimiter: what separates its columns; None for whatever the file shows.
        users: names that its column of users may have, the first found counts; numbers, from 1 on, without a header.
        items: the same for items.
        times: the same for times; none if there are none.
        header: whether its first line names the columns.
    """

    delimiter: str | None
    users: Sequence[str]
    items: Sequence[str]
    times: Sequence[str]
    header: bool = True


SHAPES: dict[str, Shape] = {
    "auto": Shape(None, USERS, ITEMS, TIMES),
    "recbole": Shape("\t", ("user_id", "session_id"), ("item_id",), ("timestamp",)),
    "gru4rec": Shape("\t", ("SessionId",), ("ItemId",), ("Time",)),
    "sasrec": Shape(" ", "1", "2", "", header=False),
    "movielens": Shape(None, ("userId",), ("movieId",), ("timestamp",)),
    "yoochoose": Shape(",", "1", "3", "2", header=False),
}
MOVIELENS_DAT = Shape("::", "1", "2", "4", header=False)
MOVIELENS_DATA = MOVIELENS_DAT._replace(delimiter="\t")


@dataclass(frozen=True)
class Table:
    """How a file of delimited lines is cut, and its columns.

    Attributes:
        delimiter: one character, or two.
        quote: around fields that need it; empty where quotes are text.
        escape: before a quote inside such a field.
        skip: lines above the first event.
        columns: names of all columns, or numbers, from 1 on.
        header: whether those names stand in the file.
    """

    delimiter: str
    quote: str
    escape: str
    skip: int
    columns: tuple[str, ...]
    header: bool = True


class Columns(NamedTuple):
    """Names of the columns that are read; None for a time where there is none."""

    user: str
    item: str
    time: str | None


def find_shape(path: Path, data: EventSettings) -> tuple[str, Shape]:
    """The shape of a file with its name: the one that the settings name, RecBole's by the ending, or none, "".

    Raises:
        UserError: for an unknown name.
    """
    name = data.events or ("recbole" if is_atomic(path) else "")
    if not name:
        return "", Shape(None, (), (), ())
    check_choice("data.events", name, SHAPES)
    shape = SHAPES[name]
    if name == "movielens":
        first = first_line(path)
        shape = MOVIELENS_DAT if "::" in first else MOVIELENS_DATA if first.count("\t") == 3 else shape
    if name == "sasrec" and "\t" in first_line(path):
        shape = shape._replace(delimiter="\t")
    return name, shape


def find_table(path: Path, shape: Shape, data: Any) -> Table:
    """How a file of delimited lines is cut.

    Args:
        path: the file.
        shape: of `find_shape`.
        data: settings of section data: delimiter, quoting, header, and the columns.

    Raises:
        UserError: if it is empty, or its header cannot be read.
    """
    header = shape.header and data.header
    if shape.delimiter in ("::", " ") or data.delimiter == "::":
        delimiter = shape.delimiter if data.delimiter is None else data.delimiter
        line = first_line(path)
        dialect, names = Dialect(cast(str, delimiter), "none", header), line.split(delimiter)
        last = 1
    else:
        dialect = _dialect(path, shape, data, header)
        with closing(cast(Any, parse_records(path, dialect, None))) as records:
            first = next(records, None)
        if isinstance(first, BadRow):
            raise first
        names = first.fields if first is not None else []
        last = first.last_line if first is not None else 0
    if not names:
        raise UserError(f"{path} is empty: a row for each event is needed")
    if not header:
        names, last = [str(number) for number in range(1, len(names) + 1)], int(dialect.declared)
    quote = "" if dialect.quoting == "none" else '"'
    escape = {"none": "", "standard": '"', "backslash": "\\"}[dialect.quoting]
    return Table(dialect.delimiter, quote, escape, last, tuple(names), header)


def find_columns(path: Path, names: Sequence[str], shape: Shape, data: EventSettings, *, known: str = "") -> Columns:
    """Which of a file's columns are read.

    Args:
        path: the file, for messages.
        names: of its columns or keys.
        shape: of `find_shape`.
        data: settings: a column that they name goes before the shape's.
        known: the shape's name.

    Raises:
        UserError: if one is missing or there twice.
    """
    found: dict[str, str | None] = {}
    for what, choices in (("user", shape.users), ("item", shape.items), ("time", shape.times)):
        key, given = f"data.{what}_column", getattr(data, f"{what}_column")
        column = _named(given, names) if given is not None else _first(choices, names)
        if given is not None and column is None:
            raise UserError(f"{key}={given}: no such column in {path}.{did_you_mean(given, names)}")
        if column is None and (what != "time" or (choices and not shape.header)):
            raise UserError(
                f"{path}: which column is the {what}'s? It has {', '.join(names[:20])}: set {key}=NAME"
                + (f" (data.events={known} expects {' or '.join(choices)})" if choices else "")
            )
        if column is not None and list(names).count(column) > 1:
            raise UserError(f"{key}={column}: {path} has several columns of this name: rename them")
        found[what] = column
    return Columns(cast(str, found["user"]), cast(str, found["item"]), found["time"])


def looks_like_events(names: Sequence[str]) -> dict[str, str]:
    """The settings that would make a log of a table with these columns; none if it has no user, item and time."""
    found = {"user": _first(USERS, names), "item": _first(ITEMS, names), "time": _first(TIMES, names)}
    named = {f"data.{what}_column": name for what, name in found.items() if name is not None}
    return named if len(named) == len(found) else {}


def first_line(path: Path) -> str:
    """A file's first line, without its end.

    Raises:
        UserError: if it cannot be read.
    """
    return next(Lines(path), "").rstrip("\r\n")


def _dialect(path: Path, shape: Shape, data: Any, header: bool) -> Dialect:
    delimiter = data.delimiter if data.delimiter is not None else shape.delimiter
    asked = [name for name in (data.user_column, data.item_column, data.time_column) if name is not None]
    if delimiter is None and not asked and header:
        line = first_line(path)  # the delimiter that its first line has most of
        delimiter = max(DELIMITERS, key=line.count)
    if data.quoting == "auto":
        found = find_dialect(path, asked, delimiter=delimiter, quoting="standard", header=header)
        first = [line.rstrip("\r\n").split("\t") for line in islice(Lines(path), 2)]
        plain = found.delimiter == "\t" and not any(QUOTED.fullmatch(field) for fields in first for field in fields)
        return replace(found, quoting="none" if plain else "standard")
    return find_dialect(path, asked, delimiter=delimiter, quoting=data.quoting, header=header)


def _named(given: str, names: Sequence[str]) -> str | None:
    """The column of that name, with or without RecBole's kind."""
    if given in names:
        return given
    return next((name for name in names if name.partition(":")[0] == given), None)


def _first(choices: Sequence[str], names: Sequence[str]) -> str | None:
    folded = {_fold(name): name for name in reversed(names)}
    return next((folded[_fold(choice)] for choice in choices if _fold(choice) in folded), None)


def _fold(name: str) -> str:
    return re.sub(r"[\W_]", "", name.partition(":")[0].casefold())
