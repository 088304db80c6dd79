"""The rows of files of events, as SQL: user, item and time of each as text, and what is wrong with its structure.

duckdb reads the files; which columns and delimiters they have is found here, and never guessed by it.
"""

import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quorem.config.events import EventSettings
from quorem.config.parsing import parse_json
from quorem.config.settings import TextDataSettings
from quorem.data.events.engine import connect
from quorem.data.events.shapes import SHAPES, Columns, find_columns, find_shape, find_table
from quorem.data.readers.compression import open_data
from quorem.data.readers.encoding import find_encoding
from quorem.data.readers.lines import Lines
from quorem.errors import UserError

LONGEST_LINE = 2**24  # bytes
NO_TEXT = "is no JSON object"
NO_VALUE = "has a list or an object where an id or a time is needed"


@dataclass(frozen=True)
class Rows:
    """A file's rows.

    Attributes:
        query: SELECT of u, i, t and w (VARCHAR): user, item, time or NULL, and what is wrong or NULL; its one parameter
            is the path of `readable`.
        columns: that it reads.
        above: lines above the first row.
    """

    query: str
    columns: Columns
    above: int = 0


def find_rows(path: Path, kind: str, data: Any) -> Rows:
    """How the rows of a file are read.

    Args:
        path: the file.
        kind: a key of READERS: parquet, jsonl, and all else has delimited lines.
        data: settings of section data.

    Raises:
        UserError: if it cannot be read, or lacks a column.
    """
    if kind == "parquet":
        return _of_parquet(path, data)
    if (codec := find_encoding(path, None).codec) != "utf-8":
        raise UserError(f"{path}: is {codec.upper()}, and logs of events are read as UTF-8: save it as UTF-8")
    if kind == "jsonl":
        return _of_objects(path, data)
    return _of_lines(path, data)


def names_of(path: Path, kind: str) -> list[str]:
    """The columns that the head of a file of delimited lines names, or the keys of its first object.

    Raises:
        UserError: if it cannot be read.
    """
    if kind == "jsonl":
        return list(_first_object(path))
    return list(find_table(path, SHAPES["auto"], TextDataSettings()).columns)


def literal(text: str) -> str:
    """A literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def readable(path: Path, work: Path) -> Iterator[str]:
    """The path under which duckdb reads a file and no other, whatever its name looks like.

    What is compressed by zstd is unpacked into `work` for the while: duckdb takes a file that was cut off for whole.

    Raises:
        UserError: if it is missing or damaged.
    """
    if path.suffix.lower() != ".zst":
        yield glob.escape(str(path.absolute()))
        return
    plain = work / "unpacked"
    try:
        with open_data(path) as packed, plain.open("wb") as file:
            shutil.copyfileobj(packed, file, 2**20)
        yield glob.escape(str(plain.absolute()))
    finally:
        plain.unlink(missing_ok=True)


def _of_lines(path: Path, data: Any) -> Rows:
    known, shape = find_shape(path, data)
    table = find_table(path, shape, data)
    columns = find_columns(path, table.columns, shape, data, known=known)
    numbers = [table.columns.index(name) if name is not None else None for name in columns]
    user, item, time = (f"c{number}" if number is not None else "NULL::VARCHAR" for number in numbers)
    kinds = ", ".join(f"c{number}: 'VARCHAR'" for number in range(len(table.columns)))
    query = (
        f"SELECT {user} u, {item} i, {time} t, NULL::VARCHAR w FROM read_csv(?, auto_detect=false, header=false, "
        f"skip={table.skip}, delim={literal(table.delimiter)}, quote={literal(table.quote)}, "
        f"escape={literal(table.escape)}, columns={{{kinds}}}, store_rejects=true, rejects_limit=0, "
        f"max_line_size={LONGEST_LINE}, buffer_size={2 * LONGEST_LINE})"
    )
    if table.header:  # a header that repeats, as where files were joined, is no row
        again = [f"{place} = {literal(name)}" for place, name in ((user, columns.user), (item, columns.item))]
        query += f" WHERE ({' AND '.join(again)}) IS NOT TRUE"
    return Rows(query, columns, table.skip)


def _of_objects(path: Path, data: EventSettings) -> Rows:
    known, shape = find_shape(path, data)
    columns = find_columns(path, list(_first_object(path)), shape, data, known=known)
    keys = ["/" + (name or columns.user).replace("~", "~0").replace("/", "~1") for name in columns]
    asked = "[" + ", ".join(map(literal, keys)) + "]"
    time = "v[3]" if columns.time is not None else "NULL::VARCHAR"
    query = (
        f"SELECT v[1] u, v[2] i, {time} t, CASE WHEN line IS NULL OR trim(line) = '' THEN NULL WHEN k IS NULL THEN "
        f"{literal(NO_TEXT)} WHEN list_has_any(k, ['ARRAY', 'OBJECT']) THEN {literal(NO_VALUE)} END w FROM (SELECT "
        "line, "
        f"CASE WHEN json_type(o) = 'OBJECT' THEN json_extract_string(o, {asked}) END v, "
        f"CASE WHEN json_type(o) = 'OBJECT' THEN json_type(o, {asked}) END k "
        "FROM (SELECT line, CASE WHEN json_valid(line) THEN line END o "
        "FROM read_csv(?, auto_detect=false, header=false, delim='\x01', quote='', escape='', "
        f"columns={{line: 'VARCHAR'}}, store_rejects=true, rejects_limit=0, max_line_size={LONGEST_LINE}, "
        f"buffer_size={2 * LONGEST_LINE})))"
    )
    return Rows(query, columns)


def _first_object(path: Path) -> dict[str, Any]:
    line = next((text for text in Lines(path) if text.strip()), None)
    if line is None:
        raise UserError(f"{path} is empty: a JSON object for each event, one in each line, is needed")
    try:
        first = parse_json(line)
    except ValueError:
        first = None
    if not isinstance(first, dict):
        raise UserError(f"{path}, line 1: is no JSON object: one for each event, one in each line, is needed")
    return first


def _of_parquet(path: Path, data: EventSettings) -> Rows:
    known, shape = find_shape(path, data)
    with connect(None) as engine:
        place = literal(glob.escape(str(path.absolute())))
        found = engine.run(f"DESCRIBE SELECT * FROM read_parquet({place})", path).fetchall()
    kinds = {str(name): str(kind) for name, kind, *_ in found}
    columns = find_columns(path, list(kinds), shape, data, known=known)
    for name in filter(None, columns):
        if kinds[name].endswith("]") or kinds[name].startswith(("STRUCT", "MAP", "UNION")):
            raise UserError(
                f"{path}: column {name!r} is {kinds[name]}, where a row has one event: lists of items are read as "
                f"texts (data.text_column={name})"
            )
    names = ['"' + name.replace('"', '""') + '"' for name in filter(None, columns)]
    user, item, time = (*(f"CAST({name} AS VARCHAR)" for name in names), "NULL::VARCHAR")[:3]
    return Rows(f"SELECT {user} u, {item} i, {time} t, NULL::VARCHAR w FROM read_parquet(?)", columns)
