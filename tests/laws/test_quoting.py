"""Quotes around fields, quotes that are text, quotes behind backslashes: found, set, and never a row without a word."""

import csv
import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_cases import read_csv

from quorem.data.documents import RowCounts
from quorem.data.readers.csv import read_rows
from quorem.data.readers.dialect import find_dialect
from quorem.errors import UserError

ROWS = [(f"a film of {number} minutes", str(number % 2)) for number in range(40)]
FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
LINES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t"), max_size=12)


def tables(fields):
    return st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(fields, min_size=width, max_size=width), min_size=1, max_size=8)
    )


def write(folder, content, name):
    path = folder / name
    path.write_bytes(content.encode())
    return path


def plain(folder, rows, name="a.tsv", delimiter="\t"):
    """A file written without any quoting."""
    return write(folder, "".join(delimiter.join(row) + "\n" for row in [("text", "label"), *rows]), name)


def quoted(folder, rows, name, **how):
    """A file as csv writes it."""
    buffer = io.StringIO(newline="")
    csv.writer(buffer, **how).writerows([("text", "label"), *rows])
    return write(folder, buffer.getvalue(), name)


def with_text(*changes):
    """ROWS, of which some have another text: pairs of the 1-based row and the text."""
    changed = dict(changes)
    return [(changed.get(number, text), label) for number, (text, label) in enumerate(ROWS, start=1)]


def read(path, **more):
    counts = RowCounts()
    found = [(item.text, item.label) for item in read_csv(path, text_column="text", label_column="label", counts=counts,
                                                          **more)]  # fmt: skip
    return found, counts


PAIRED = with_text((11, '"so it begins'), (31, 'and so it ends"'))
OPEN = with_text((11, '"so it begins'))
INSIDE = with_text((3, '"this" is good'), (20, 'a "word'), (25, '"'))


@pytest.mark.parametrize("rows", [PAIRED, OPEN, INSIDE], ids=["paired", "open", "inside"])
@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_a_tsv_written_without_quoting_keeps_every_row_and_says_so(tmp_path, caplog, rows, bad_rows):
    path = plain(tmp_path, rows)
    for _ in range(2):
        found, counts = read(path, bad_rows=bad_rows)
        assert found == rows
        assert (counts.read, counts.skipped) == (40, 0)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]  # once
    assert "data.quoting=none" in caplog.text


@pytest.mark.parametrize(("name", "delimiter"), [("a.csv", ","), ("b.csv", ";"), ("c.csv", "|")])
def test_quotes_that_swallow_rows_are_text_between_any_delimiters(tmp_path, caplog, name, delimiter):
    found, _ = read(plain(tmp_path, PAIRED, name, delimiter))
    assert found == PAIRED
    assert "data.quoting=none" in caplog.text


def test_an_open_quote_in_a_csv_is_an_error_that_names_the_settings(tmp_path):
    with pytest.raises(UserError, match=r"row 11 .starts at line 12, ends at 41.*data.quoting=none.*=backslash"):
        read(plain(tmp_path, OPEN, "a.csv", ","))
    assert read(plain(tmp_path, OPEN, "a.csv", ","), quoting="none")[0] == OPEN


def test_rows_that_an_open_quote_swallowed_are_counted(tmp_path):
    found, counts = read(plain(tmp_path, OPEN, "a.csv", ","), bad_rows="skip")
    assert found == OPEN[:10]
    assert (counts.read, counts.used, counts.bad) == (40, 10, 30)
    assert "row 11" in counts.messages[0]
    assert all(f"row {row} " in message for row, message in enumerate(counts.messages, start=11))
    found, counts = read(plain(tmp_path, with_text((5, '"x'), (9, '"y" z')), "b.csv", ","), bad_rows="skip")
    assert found == ROWS[:4] + ROWS[9:]  # the next quote ends what is swallowed
    assert (counts.read, counts.bad) == (40, 5)


def test_rows_swallowed_before_bad_bytes_are_counted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\na,1\n"b,2\nc,3\n\xff,4\ne,5\n')
    found, counts = read(path, bad_rows="skip")
    assert (found, counts.read, counts.bad) == ([("a", "1"), ("e", "5")], 5, 3)


@pytest.mark.parametrize(
    ("rows", "how"),
    [
        (ROWS, {"quoting": csv.QUOTE_ALL}),
        (ROWS, {"quoting": csv.QUOTE_NONNUMERIC}),
        (with_text((4, "a\tb"), (7, "c\nd\te\nf")), {}),
        (with_text((4, 'say "x"'), (7, "c\nd")), {}),
    ],
)
def test_a_tsv_with_quoting_stays_so_where_one_row_is_broken(tmp_path, rows, how):
    path = quoted(tmp_path, rows, "a.tsv", delimiter="\t", **how)
    assert read(path)[0] == rows
    path.write_bytes(path.read_bytes() + b'"an open one\t1\r\nx\t0\r\n')
    with pytest.raises(UserError, match=r"row 41 .*broken quotes"):
        read(path)
    assert find_dialect(path, ["text"]).quoting == "standard"


def test_a_bad_byte_does_not_make_quotes_text(tmp_path):
    path = quoted(tmp_path, with_text((4, '"x"')), "a.tsv", delimiter="\t")
    path.write_bytes(path.read_bytes() + b"\xff\t1\n")
    assert find_dialect(path, ["text"]).quoting == "standard"


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_a_field_that_may_have_swallowed_a_row_is_read_and_doubted_once(tmp_path, caplog, delimiter):
    rows = with_text((4, f"one{delimiter}two\nthree"), (9, 'say "x"'), (12, f"a{delimiter}b\nc"))
    path = quoted(tmp_path, rows, "a.tsv" if delimiter == "\t" else "a.csv", delimiter=delimiter)
    for _ in range(2):
        assert read(path)[0] == rows
    (said,) = [record.getMessage() for record in caplog.records]
    assert "row 4 (starts at line 5, ends at 6) (and 1 more rows)" in said
    assert "for 2 rows, which are read as one" in said
    assert "data.quoting=none" in said


def test_quotes_that_are_taken_for_such_by_the_settings_are_doubted_too(tmp_path, caplog):
    found, counts = read(plain(tmp_path, PAIRED), quoting="standard")
    assert (len(found), counts.read) == (20, 20)
    assert "for 21 rows, which are read as one" in caplog.text


def test_lines_inside_quotes_that_are_no_rows_are_not_doubted(tmp_path, caplog):
    rows = with_text((4, "one\ntwo"), (9, "a, b, c\nd"))
    assert read(quoted(tmp_path, rows, "a.csv"))[0] == rows
    assert not caplog.records


# ---- backslashes


@pytest.mark.slow
@given(table=tables(FIELDS))
@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("style", [csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONE])
def test_what_is_written_with_backslashes_is_read_back_equal(tmp_path_factory, delimiter, style, table):
    buffer = io.StringIO(newline="")
    header = [f"column {index}" for index in range(len(table[0]))]
    writer = csv.writer(buffer, delimiter=delimiter, doublequote=False, escapechar="\\", quoting=style)
    writer.writerows([header, *table])
    path = write(tmp_path_factory.getbasetemp(), buffer.getvalue(), "a.csv")
    dialect = find_dialect(path, header, delimiter=delimiter, quoting="backslash")
    assert [fields for _, fields in read_rows(path, dialect=dialect)[1]] == table


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_backslashes_are_found_and_told(tmp_path, caplog, name):
    rows = [(f'a "fine" film, {text}', label) for text, label in ROWS]
    how = {"doublequote": False, "escapechar": "\\", "quoting": csv.QUOTE_ALL}
    path = quoted(tmp_path, rows, name, delimiter="\t" if name == "a.tsv" else ",", **how)
    assert read(path)[0] == rows
    assert "data.quoting=backslash" in caplog.text


def test_backslashes_before_anything_else_are_text(tmp_path):
    path = write(tmp_path, 'text,label\n"C:\\new \\"x\\" \\\\",1\nd\\,e,2\\\r\n', "a.csv")
    _, rows = read_rows(path, dialect=find_dialect(path, ["text"], quoting="backslash"))
    assert list(rows) == [(1, ['C:\\new "x" \\', "1"]), (2, ["d,e", "2\\"])]


# ---- none


@given(table=tables(LINES))
def test_without_quoting_every_character_is_text(tmp_path_factory, table):
    header = [f"column {index}" for index in range(len(table[0]))]
    lines = ["\t".join(row) for row in [header, *table]]
    path = write(tmp_path_factory.getbasetemp(), "\n".join([*lines, lines[-1] + "end", ""]), "a.tsv")
    dialect = find_dialect(path, header, quoting="none")
    assert [fields for _, fields in read_rows(path, dialect=dialect)[1]][:-1] == table


def test_a_row_of_another_width_says_that_quotes_are_text(tmp_path):
    with pytest.raises(UserError, match=r"found 3 fields, expected 2 .*Quotes are text here \(data.quoting=none\)"):
        read(write(tmp_path, 'text,label\n"a,b",1\n', "a.csv"), quoting="none")


def test_the_choice_is_checked(tmp_path):
    with pytest.raises(UserError, match=r"data.quoting=non: unknown. Did you mean none\? Allowed: auto, backslash"):
        read(plain(tmp_path, ROWS), quoting="non")


# ---- headers in quotes


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "|", "\t"])
def test_a_header_in_quotes_is_read_at_any_delimiter(tmp_path, name, delimiter):
    path = quoted(tmp_path, ROWS, name, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    assert read(path)[0] == ROWS
    assert read_rows(path)[0] == ["text", "label"]
