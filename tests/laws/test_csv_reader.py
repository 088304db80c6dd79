import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reader_cases import read_csv

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.csv import read_rows
from quorem.errors import UserError

FIELDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TABLES = st.integers(1, 4).flatmap(
    lambda width: st.lists(st.lists(FIELDS, min_size=width, max_size=width), min_size=1, max_size=8)
)


def write(folder, content, name="reviews.csv"):
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def rows_of(path):
    header, rows = read_rows(path)
    return header, list(rows)


def failure_of(path, **columns):
    with pytest.raises(UserError) as caught:
        list(read_csv(path, **({"text_column": "text"} | columns)))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.slow
@given(table=TABLES)
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.tsv.gz"])
def test_what_csv_writer_wrote_is_read_back_equal(tmp_path_factory, name, table):
    header = [f"column {index}" for index in range(len(table[0]))]
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter="\t" if ".tsv" in name else ",").writerows([header, *table])
    path = write(tmp_path_factory.getbasetemp(), buffer.getvalue(), name)
    assert rows_of(path) == (header, list(enumerate(table, start=1)))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends_do_not_reach_the_fields(tmp_path, mark, end):
    path = write(tmp_path, mark + end.join(["text,label", "f\u00fcnf,a", "b,c", ""]).encode())
    assert rows_of(path) == (["text", "label"], [(1, ["f\u00fcnf", "a"]), (2, ["b", "c"])])


def test_quotes_doubled_quotes_and_lines_inside_quotes_are_kept(tmp_path):
    path = write(tmp_path, 'text,label\r\n"one\r\ntwo, ""three""\u2028",a\r\n')
    assert rows_of(path)[1] == [(1, ['one\r\ntwo, "three"\u2028', "a"])]


def test_documents_carry_text_label_and_row_and_skipped_rows_are_counted(tmp_path):
    path = write(tmp_path, "label,text\na, x \n,no label\nb,  \nc,y\n")
    counts = RowCounts()
    documents = list(read_csv(path, text_column="text", label_column="label", counts=counts))
    assert documents == [Document(" x ", "a", 1), Document("y", "c", 4)]
    assert counts == RowCounts(read=4, used=2, skipped=2)


def test_an_empty_label_does_not_matter_when_labels_are_not_asked_for(tmp_path):
    path = write(tmp_path, "label,text\n,x\n")
    assert list(read_csv(path, text_column="text")) == [Document("x", None, 1)]


def test_very_long_fields_are_read(tmp_path):
    text = "word " * 200_000
    csv.field_size_limit(1000)
    assert next(read_csv(write(tmp_path, f"text\n{text}\n"), text_column="text")).text == text


@pytest.mark.parametrize("tail", ["\n\n\n", "\r\n\r\n", "\n  \n"])
def test_blank_lines_at_the_end_are_ignored(tmp_path, tail):
    assert rows_of(write(tmp_path, "text,label\na,b" + tail))[1] == [(1, ["a", "b"])]


def test_blank_lines_of_a_one_column_file_are_skipped_rows(tmp_path):
    counts = RowCounts()
    documents = read_csv(write(tmp_path, "text\na\n\nb\nc\n\n"), text_column="text", counts=counts)
    assert [document.row for document in documents] == [1, 3, 4]
    assert counts == RowCounts(read=4, used=3, skipped=1)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("content", ["", "\n\r\n", b"\xef\xbb\xbf"])
def test_empty_file(tmp_path, name, content):
    assert "is empty" in failure_of(write(tmp_path, content, name))


def test_missing_column_lists_the_columns_and_the_nearest_at_the_call(tmp_path):
    path = write(tmp_path, "Texts,label\na,b\n")
    with pytest.raises(UserError, match=r"no column 'text'\. Did you mean Texts\? Allowed: Texts, label\."):
        read_csv(path, text_column="text")
    assert "no column 'lable'. Did you mean label?" in failure_of(path, text_column="Texts", label_column="lable")


def test_repeated_column_matters_only_when_it_is_asked_for(tmp_path):
    path = write(tmp_path, "text,note,note\na,b,c\n")
    assert [document.text for document in read_csv(path, text_column="text")] == ["a"]
    assert "'note' more than once (columns 2, 3)" in failure_of(path, text_column="note")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text,label\na,b\nc\n", ["row 2 (line 3)", "found 1 fields, expected 2"]),
        ('text,label\n"a\n\na",b\nc,d,e\n', ["row 2 (line 5)", "found 3 fields, expected 2"]),
        ('text,label\na,b\n"c\nd\n",e,f\n', ["row 2 (starts at line 3, ends at 5)", "found 3 fields"]),
        ("text,label\na,b\n\nc,d\n", ["row 2 (line 3)", "found 0 fields, expected 2"]),
    ],
)
def test_wrong_number_of_fields(tmp_path, content, words):
    message = failure_of(write(tmp_path, content))
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ('text,label\na,b\n"c,d\ne,f\ng,h\n', "row 2 (starts at line 3, ends at 5)"),
        ('text,label\na,b\nc,"d"e\n', "row 2 (line 3)"),
        ('text,label\n"a\nb",c\nd,"e\nf"g\n', "row 2 (starts at line 4, ends at 5)"),
        ('"text,label\na,b\n', "the header (starts at line 1, ends at 2)"),
    ],
)
def test_broken_quotes_name_the_line_where_the_record_started(tmp_path, content, place):
    message = failure_of(write(tmp_path, content))
    assert place in message
    assert "broken quotes" in message


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8_are_found_to_the_byte(tmp_path, mark):
    content = mark + b'text,n\n"one\ntwo",1\ncaf\xe9 noir,2\n'
    message = failure_of(write(tmp_path, content))
    assert f"line 4: byte 0xe9 at byte offset {content.index(0xE9)} is not UTF-8" in message
    assert "looks like cp1252: set data.encoding=cp1252. Or re-save" in message
    message = failure_of(write(tmp_path, mark + b"caf\xe9\n"))
    assert f"line 1: byte 0xe9 at byte offset {len(mark) + 3}" in message


def test_files_without_a_usable_row(tmp_path):
    assert "no data rows" in failure_of(write(tmp_path, "text,label\n\n"))
    assert "all 2 data rows have an empty text:" in failure_of(write(tmp_path, "text,label\n,a\n ,b\n"))
    message = failure_of(write(tmp_path, "text,label\n,a\nb,\n"), label_column="label")
    assert "empty text or label" in message
