import csv
import gzip
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorem.data.documents import Document, RowCounts
from quorem.data.readers import READERS
from quorem.data.readers import csv as csv_reader
from quorem.data.readers.csv import read_csv, read_rows
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


def test_the_tally_adds_up_at_every_moment_and_over_files(tmp_path):
    path = write(tmp_path, "text,n\n" + "".join(f"{'x' if n % 3 else ''},{n}\n" for n in range(1, 20)))
    counts = RowCounts()
    for _ in range(2):
        for _ in read_csv(path, text_column="text", counts=counts):
            assert counts.read == counts.used + counts.skipped
    assert counts == RowCounts(read=38, used=26, skipped=12)


def test_reading_is_streamed(tmp_path):
    path = write(tmp_path, b"text\n" + b"good\n" * 5 + b"bad \xff\n")
    documents = read_csv(path, text_column="text")
    assert [next(documents).row for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(UserError):
        next(documents)


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


def test_unread_and_half_read_files_are_closed(tmp_path):
    path = write(tmp_path, "text\na\nb\n")  # a file left open is a ResourceWarning, which fails the test
    read_rows(path)
    next(read_csv(path, text_column="text"))


def test_the_table_of_readers_reads(tmp_path):
    assert [d.text for d in READERS["csv"](write(tmp_path, "text\na\n"), text_column="text")] == ["a"]


def test_missing_file_and_folder(tmp_path):
    assert "does not exist" in failure_of(tmp_path / "absent.csv")
    assert "does not exist" in failure_of(tmp_path / "absent.csv.gz")
    assert "is a folder" in failure_of(tmp_path)


@pytest.mark.parametrize(("error", "words"), [(PermissionError, "permission"), (OSError, "No space")])
def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch, error, words):
    def refuse(*_):
        raise error(28, "No space")

    monkeypatch.setattr(csv_reader, "open", refuse, raising=False)
    assert words in failure_of(write(tmp_path, "text\na\n"))


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


def test_lone_carriage_returns_are_named(tmp_path):
    assert "carriage return" in failure_of(write(tmp_path, "text\ra\rb\r"))


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_bytes_that_are_not_utf8_are_found_to_the_byte(tmp_path, mark):
    content = mark + b'text,n\n"one\ntwo",1\ncaf\xe9 noir,2\n'
    message = failure_of(write(tmp_path, content))
    assert f"line 4: byte 0xe9 at byte offset {content.index(0xE9)} is not UTF-8" in message
    assert "Re-save" in message
    message = failure_of(write(tmp_path, mark + b"caf\xe9\n"))
    assert f"line 1: byte 0xe9 at byte offset {len(mark) + 3}" in message


def test_nul_bytes_are_found_to_the_byte(tmp_path):
    assert "line 3: NUL byte at byte offset 8" in failure_of(write(tmp_path, "text\na\nb\0\n"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("text\na\n".encode("utf-16"), "UTF-16"),
        (gzip.compress(b"text\na\n"), "add .gz"),
        (b"PK\x03\x04rest", "Excel"),
    ],
)
def test_files_of_another_format_are_recognised(tmp_path, content, words):
    assert words in failure_of(write(tmp_path, content))


def test_damaged_gzip(tmp_path):
    path = tmp_path / "a.csv.gz"
    whole = gzip.compress(b"text\n" + b"".join(b"row %d\n" % (n * 7919) for n in range(5000)))
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :]
    for broken in (whole[:middle], whole[:-4], flipped, b"text\na\n"):
        path.write_bytes(broken)
        assert "gzip" in failure_of(path)


def test_files_without_a_usable_row(tmp_path):
    assert "no data rows" in failure_of(write(tmp_path, "text,label\n\n"))
    assert "all 2 data rows have an empty text:" in failure_of(write(tmp_path, "text,label\n,a\n ,b\n"))
    message = failure_of(write(tmp_path, "text,label\n,a\nb,\n"), label_column="label")
    assert "empty text or label" in message
