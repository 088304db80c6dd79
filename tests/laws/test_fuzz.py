"""Any file at all: documents that add up, or one clear error that names it. QUOREM_FUZZ=10000 tries so many files."""

import csv
import io

import pytest
from any_files import anything, bad_rows, delimiters, encodings, fuzzed, json_lines, quotings, tables
from hypothesis import given
from hypothesis import strategies as st
from reader_cases import read_csv, read_jsonl, read_text

from quorem.data.documents import RowCounts
from quorem.data.readers.csv import read_rows
from quorem.data.readers.dialect import find_dialect
from quorem.errors import UserError


def check(folder, reader, name, content, *, bad_rows, **more):
    """Read a file, and hold the reader to what it promises."""
    path = folder.getbasetemp() / name
    path.write_bytes(content)
    counts, documents, rows, message = RowCounts(), 0, 0, ""
    try:
        for document in reader(path, counts=counts, bad_rows=bad_rows, **more):
            documents += 1
            assert counts.read == counts.used + counts.skipped
            assert document.text.strip()
            assert document.label is None or document.label.strip()
            assert rows < document.row
            rows = document.row
            document.text.encode()
    except UserError as error:
        message = str(error)
        assert str(path) in message
        assert len(message.splitlines()) == 1
    assert message or documents
    assert counts.used == documents
    assert counts.read == counts.used + counts.skipped
    assert counts.bad == len(counts.messages) <= counts.skipped
    assert all(line.startswith(str(path)) and len(line.splitlines()) == 1 for line in counts.messages)
    assert bad_rows == "skip" or not counts.bad
    return documents


@pytest.mark.slow
@fuzzed
@given(
    content=tables() | anything,
    choice=bad_rows,
    encoding=encodings,
    delimiter=delimiters,
    label=st.booleans(),
    quoting=quotings,
    header=st.booleans(),
)
def test_any_csv(tmp_path_factory, content, choice, encoding, delimiter, label, quoting, header):
    names = ("text", "label") if header else ("1", "2")
    columns = {"text_column": names[0], "label_column": names[1] if label else None}
    options = {"encoding": encoding, "delimiter": delimiter, "quoting": quoting, "header": header}
    check(tmp_path_factory, read_csv, "any.csv", content, bad_rows=choice, **columns, **options)


@pytest.mark.slow
@fuzzed
@given(content=json_lines() | anything, choice=bad_rows, encoding=encodings, label=st.booleans())
def test_any_json_lines(tmp_path_factory, content, choice, encoding, label):
    columns = {"text_column": "text", "label_column": "label" if label else None}
    check(tmp_path_factory, read_jsonl, "any.jsonl", content, bad_rows=choice, encoding=encoding, **columns)


@pytest.mark.slow
@fuzzed
@given(
    content=json_lines() | anything,
    choice=bad_rows,
    encoding=encodings,
    documents=st.sampled_from(["line", "paragraph"]),
)
def test_any_text(tmp_path_factory, content, choice, encoding, documents):
    check(tmp_path_factory, read_text, "any.txt", content, bad_rows=choice, encoding=encoding, documents=documents)


@pytest.mark.slow
@fuzzed
@given(content=tables() | anything, encoding=encodings, delimiter=delimiters, quoting=quotings)
def test_skipping_loses_nothing_that_comes_before_the_first_error(
    tmp_path_factory, content, encoding, delimiter, quoting
):
    more = {"text_column": "text", "encoding": encoding, "delimiter": delimiter, "quoting": quoting}
    before = check(tmp_path_factory, read_csv, "same.csv", content, bad_rows="error", **more)
    assert check(tmp_path_factory, read_csv, "same.csv", content, bad_rows="skip", **more) >= before


plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), max_size=8)
cells = plain | st.lists(st.sampled_from(["a", '"', "\\", ",", "\n", "\r\n", ";", "\t", " "]), max_size=6).map("".join)


@pytest.mark.slow
@fuzzed
@given(
    rows=st.lists(st.tuples(cells, cells, cells), max_size=6),
    quoting=st.sampled_from(["standard", "none", "backslash"]),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    every=st.booleans(),
)
def test_what_was_written_in_some_quoting_is_read_in_it(tmp_path_factory, rows, quoting, delimiter, end, every):
    how = {"quoting": csv.QUOTE_ALL if every else csv.QUOTE_MINIMAL, "lineterminator": end, "delimiter": delimiter}
    buffer = io.StringIO(newline="")
    header = ["text", "label", "more"]
    if end == "\n" and not every:  # so Python 3.11 writes a carriage return without quotes
        rows = [tuple(cell.replace("\r", "") for cell in row) for row in rows]
    if quoting == "none":  # which has no way to write some values
        rows = [tuple("".join(c for c in cell if c not in "\r\n" + delimiter) for cell in row) for row in rows]
        buffer.writelines(delimiter.join(row) + end for row in [header, *rows])
    elif quoting == "standard":
        csv.writer(buffer, **how).writerows([header, *rows])
    else:  # as MySQL and Spark write: of backslashes, those alone that stand before a quote or another are escaped
        rows = [tuple(cell.replace("\\", "/") for cell in row) for row in rows]
        csv.writer(buffer, **how, doublequote=False, escapechar="\\").writerows([header, *rows])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(buffer.getvalue().encode())
    _, found = read_rows(path, dialect=find_dialect(path, ["text"], delimiter=delimiter, quoting=quoting))
    expected = [row for row in rows if list(row) != header]
    assert [tuple(fields) for _, fields in found] == expected
    counts, used = RowCounts(), [row for row in expected if row[0].strip()]
    options = {"text_column": "text", "delimiter": delimiter, "quoting": quoting, "counts": counts}
    if used:
        assert [each.text for each in read_csv(path, **options)] == [row[0] for row in used]
        assert (counts.read, counts.used) == (len(expected), len(used))
