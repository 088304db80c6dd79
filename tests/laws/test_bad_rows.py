"""Bad rows skipped and listed, encodings, delimiters, compressions, paragraphs: what data.* of lines can be told."""

import gzip
import json
import logging
import re

import pytest
from reader_cases import read_csv, read_folder, read_jsonl, read_text

from quorem.data.bad_rows import report_bad_rows
from quorem.data.documents import MOST_MESSAGES, Document, RowCounts
from quorem.data.readers.csv import read_rows
from quorem.data.readers.dialect import find_dialect
from quorem.errors import UserError
from quorem.tokenization import encode, train_tokenizer

KOREAN = ["영화가 정말 재미있었다", "별로였다 다시는 안 본다", "배우들의 연기가 좋았다"]


def write(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def skipped(reader, path, **more):
    """Texts with their rows, and the tally, with bad rows skipped."""
    counts = RowCounts()
    found = []
    for document in reader(path, bad_rows="skip", counts=counts, **more):
        found.append((document.row, document.text))
        assert counts.read == counts.used + counts.skipped
    assert counts.read == counts.used + counts.skipped
    assert counts.bad == len(counts.messages) <= counts.skipped
    assert all(message.startswith(str(path)) and "\n" not in message for message in counts.messages)
    return found, counts


# ---- bad rows


def test_bad_rows_of_a_csv_are_skipped_with_the_message_the_error_would_have_had(tmp_path):
    rows = [b"good,1", b"a,b,c", b'"x"y,1', b"caf\xe9,1", b"n\0l,1", b"c\rr,1", b" ,1", b"last,2"]
    path = write(tmp_path, b"text,label\n" + b"\n".join(rows) + b"\n")
    found, counts = skipped(read_csv, path, text_column="text")
    assert found == [(1, "good"), (8, "last")]
    assert (counts.read, counts.used, counts.skipped, counts.bad) == (8, 2, 6, 5)
    for message, row, words in zip(
        counts.messages,
        (2, 3, 4, 5, 6),
        ("found 3 fields", "broken quotes", "byte 0xe9", "NUL byte", "carriage return"),
        strict=True,
    ):
        assert f"line {row + 1}" in message
        assert words in message
        alone = write(tmp_path, b"text,label\n" + b"g,1\n" * (row - 1) + rows[row - 1] + b"\n", "a.csv")
        with pytest.raises(UserError) as caught:
            list(read_csv(alone, text_column="text"))
        if "offset" not in message:
            assert str(caught.value) == message


def test_a_broken_quote_says_which_lines_it_swallowed(tmp_path):
    path = write(tmp_path, 'text,label\na,1\n"b,2\nc,3\nd,4\n')
    found, counts = skipped(read_csv, path, text_column="text")
    assert found == [(1, "a")]
    assert "row 2 (starts at line 3, ends at 5): broken quotes" in counts.messages[0]
    found, counts = skipped(read_csv, write(tmp_path, 'text,label\n"b\nc"d,2\ne,3\n'), text_column="text")
    assert found == [(2, "e")]
    assert "starts at line 2, ends at 3" in counts.messages[0]


def test_bad_lines_of_json_are_skipped_the_first_too(tmp_path):
    lines = [
        b"{",
        b'{"x": 1}',
        b'{"text": "a"}',
        b'{"text": [[1]]}',
        b'{"text": "\\ud800"}',
        b"\xff",
        b"",
        b'{"text": 2}',
    ]
    found, counts = skipped(read_jsonl, write(tmp_path, b"\n".join(lines), "a.jsonl"), text_column="text")
    assert found == [(3, "a"), (8, "2")]
    assert (counts.read, counts.bad, counts.skipped) == (8, 5, 6)


def test_bad_lines_of_text_are_skipped(tmp_path):
    found, counts = skipped(read_text, write(tmp_path, b"\xff\na\n\nb\0\nc\rd\ne", "a.txt"))
    assert found == [(2, "a"), (6, "e")]
    assert (counts.read, counts.bad, counts.skipped) == (6, 3, 4)


@pytest.mark.parametrize(
    ("reader", "content", "columns"),
    [
        (read_csv, b"text,b\n1\n2\n", {"text_column": "text"}),
        (read_jsonl, b"{\n[]\n", {"text_column": "text"}),
        (read_text, b"\xff\n\xfe\n", {}),
    ],
)
def test_a_file_of_which_no_row_can_be_used_is_an_error(tmp_path, reader, content, columns):
    counts = RowCounts()
    with pytest.raises(UserError, match=r"none of its 2 rows can be used, and 2 are bad. The first: "):
        list(reader(write(tmp_path, content), **columns, bad_rows="skip", counts=counts))
    assert counts.read == counts.skipped == counts.bad == 2
    with pytest.raises(UserError, match=r"data.bad_rows=skp: unknown. Did you mean skip"):
        list(reader(write(tmp_path, b"text\n{}"), **columns, bad_rows="skp"))


def test_a_header_that_cannot_be_read_is_an_error_all_the_same(tmp_path):
    with pytest.raises(UserError, match="the header"):
        read_csv(write(tmp_path, '"text\na\n'), text_column="text", bad_rows="skip")


def test_the_list_of_bad_rows_has_an_end(tmp_path, caplog):
    counts = RowCounts()
    report_bad_rows(counts, tmp_path)
    assert not (tmp_path / "bad_rows.txt").exists()
    for number in range(MOST_MESSAGES + 5):
        counts.skip_bad(f"row {number}")
    with caplog.at_level(logging.WARNING):
        report_bad_rows(counts, tmp_path)
    lines = (tmp_path / "bad_rows.txt").read_text().splitlines()
    assert lines[0] == "row 0"
    assert lines[-1] == "and 5 more"
    assert [record.getMessage() for record in caplog.records][:3] == [f"skipped: row {number}" for number in range(3)]
    assert "1,005 bad rows" in caplog.records[3].getMessage()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("b.txt", b"caf\xe9", "byte 0xe9"),
        ("b.txt", b"a\0b", "NUL byte"),
        ("b.txt", b"PK\3\4", "zip archive"),
        ("b.txt", gzip.compress(b"text", mtime=0), "is gzipped: add .gz"),
        ("b.txt.gz", gzip.compress(b"text" * 99, mtime=0)[:-9], "not a whole gzip file"),
        ("b.txt.gz", b"text", "not a whole gzip file"),
    ],
)
def test_where_a_file_is_a_document_a_bad_one_is_a_bad_row(tmp_path, name, content, words):
    bad = write(tmp_path, content, name)
    with pytest.raises(UserError, match=words) as caught:
        list(read_folder(bad))
    found, counts = skipped(read_folder, bad)
    assert (found, counts.messages) == ([], [str(caught.value)])
    for other in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(UserError):
            read_folder(other, bad_rows="skip")
    with pytest.raises(UserError, match="no text codec"):
        read_folder(write(tmp_path, "a", "a.txt"), bad_rows="skip", encoding="no-such")


# ---- encodings


@pytest.mark.parametrize("encoding", ["cp949", "utf-8", "utf-16", "utf-16-le", "UTF_16_BE", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_are_read_line_by_line(tmp_path, encoding, end):
    texts = [*KOREAN, "end"] if encoding == "cp949" else [*KOREAN, "ਊ \u0a0a ĊĀ", "end"]  # U+0A0A, U+010A
    expected = [Document(text, None, row) for row, text in enumerate(texts, 1)]
    path = write(tmp_path, end.join(texts).encode(encoding), "a.txt")
    assert list(read_text(path, encoding=encoding)) == expected
    path = write(tmp_path, end.join(["text", *texts, ""]).encode(encoding))
    assert list(read_csv(path, text_column="text", encoding=encoding)) == expected
    path = write(tmp_path, end.join(json.dumps({"t": text}) for text in texts).encode(encoding), "a.jsonl")
    assert list(read_jsonl(path, text_column="t", encoding=encoding)) == expected


@pytest.mark.parametrize("mark", ["utf-16", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("encoding", [None, "cp949", "utf-8"])
def test_a_byte_order_mark_says_the_encoding(tmp_path, mark, encoding):
    path = write(tmp_path, "\n".join(["text", *KOREAN]).encode(mark))
    assert [document.text for document in read_csv(path, text_column="text", encoding=encoding)] == KOREAN


@pytest.mark.parametrize("encoding", ["cp949", "cp1252", "shift_jis", "cp1251", "utf-16-le", "utf-16-be"])
def test_an_encoding_is_guessed_and_the_guess_reads_the_file(tmp_path, encoding):
    texts = {
        "cp1252": ["schön ist die Brücke", "über allen Gipfeln"],
        "shift_jis": ["これは日本語の文章です", "映画がとても面白かった"],
        "cp1251": ["привет мир", "как дела сегодня"],
    }.get(encoding, KOREAN)
    path = write(tmp_path, "\n".join(["plain", *texts]).encode(encoding), "a.txt")
    with pytest.raises(UserError, match=r"set data.encoding=") as caught:
        list(read_text(path))
    guess = re.search(r"data.encoding=([\w-]+)", str(caught.value))[1]
    assert [document.text for document in read_text(path, encoding=guess)][1:] == texts


def test_one_bad_byte_in_utf8_is_no_other_encoding(tmp_path):
    with pytest.raises(UserError, match="line 2: byte 0xff at byte offset") as caught:
        list(read_text(write(tmp_path, KOREAN[0].encode() + b"\n\xff" + KOREAN[1].encode(), "a.txt")))
    assert "looks like" not in str(caught.value)


@pytest.mark.parametrize("name", ["cp94", "rot13", "hex", "undefined", "cp037", "punycode", "a\0b", "x" * 99])
def test_a_codec_that_is_none_is_refused(tmp_path, name):
    with pytest.raises(UserError, match=r"data.encoding="):
        read_text(write(tmp_path, "a", "a.txt"), encoding=name)


def test_bytes_that_are_not_of_the_encoding_chosen_are_found(tmp_path):
    with pytest.raises(UserError, match="line 2: byte 0xff at byte offset 2 is not CP949"):
        list(read_text(write(tmp_path, b"a\n\xff\n", "a.txt"), encoding="cp949"))


# ---- delimiters


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_by_the_columns_and_told_once(tmp_path, caplog, name, delimiter):
    path = write(tmp_path, f'label{delimiter}text\n1{delimiter}"a{delimiter}b"\n', name)
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            found = list(read_csv(path, text_column="text", label_column="label"))
            assert found == [Document(f"a{delimiter}b", "1", 1)]
    by_name = delimiter == ("\t" if name == "a.tsv" else ",")
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: split at {delimiter!r}, for so its header has the columns asked for"
    ] * (not by_name)


def test_a_delimiter_can_be_set_and_goes_before_the_name(tmp_path):
    path = write(tmp_path, "a b,text\n1 2,3 4\n", "a.csv")
    assert find_dialect(path, ["text"]).delimiter == ","
    assert read_rows(write(tmp_path, "a\tb\n1\t2\n"), delimiter="\\t")[0] == ["a", "b"]
    with pytest.raises(UserError, match=r"split at ';'\) has no column 'text'"):
        read_csv(path, text_column="text", delimiter=";")
    for bad in ("", ",,", '"', "\n", "\\n", "\0"):
        with pytest.raises(UserError, match=r"data.delimiter="):
            read_csv(path, text_column="text", delimiter=bad)


# ---- compressions


def test_zstd_is_read_and_damage_named(tmp_path):
    zstd = pytest.importorskip("backports.zstd")
    whole = zstd.compress(b"text\n" + b"".join(b"row %d\n" % (n * 7919) for n in range(5000)))
    path = write(tmp_path, whole, "a.csv.zst")
    assert len(list(read_csv(path, text_column="text"))) == 5000
    for broken in (whole[: len(whole) // 2], whole[:-4], b"text\na\n"):
        path.write_bytes(broken)
        for bad_rows in ("error", "skip"):
            with pytest.raises(UserError, match="not a whole zstd file"):
                list(read_csv(path, text_column="text", bad_rows=bad_rows))
    with pytest.raises(UserError, match=r"add .zst to its name"):
        read_csv(write(tmp_path, whole), text_column="text")


def test_zstd_names_its_package_where_it_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "backports", None)
    with pytest.raises(UserError, match=r"pip install 'quorem\[zstd\]'"):
        read_text(write(tmp_path, b"", "a.txt.zst"))


# ---- paragraphs


def test_paragraphs_are_documents(tmp_path):
    path = write(tmp_path, "\n \na\n b\r\n\n\nc\n \nd\ne", "a.txt")
    counts = RowCounts()
    found = [(document.row, document.text) for document in read_text(path, documents="paragraph", counts=counts)]
    assert found == [(3, "a\n b"), (7, "c"), (9, "d\ne")]
    assert counts == RowCounts(read=3, used=3)
    with pytest.raises(UserError, match="blank lines only"):
        list(read_text(write(tmp_path, "\n\n"), documents="paragraph"))
    with pytest.raises(UserError, match=r"data.documents=sentence: unknown. Allowed: line, paragraph"):
        read_text(path, documents="sentence")


def test_a_bad_line_spoils_its_paragraph(tmp_path):
    path = write(tmp_path, b"a\n\xff\nb\n\xfe\n\nc\n\n\xff\n", "a.txt")
    found, counts = skipped(read_text, path, documents="paragraph")
    assert found == [(6, "c")]
    assert (counts.read, counts.bad) == (3, 2)
    assert "line 2" in counts.messages[0]
    assert "line 8" in counts.messages[1]


# ---- lists in JSON


def test_lists_of_strings_and_numbers_are_their_items_with_tabs_between(tmp_path):
    path = write(tmp_path, '{"t": ["a b", 1.50, "", "é\\""]}\n{"t": []}\n{"t": [7]}', "a.jsonl")
    texts = [document.text for document in read_jsonl(path, text_column="t")]
    assert texts == ['a b\t1.50\té"', "7"]
    tokenizer = train_tokenizer(texts, kind="items", vocab_size=50, separator="\\t")
    assert tokenizer.convert_ids_to_tokens(encode(tokenizer, texts[:1])[0]) == ["a b", "1.50", 'é"']
    for value in ("[null]", "[true]", "[[]]", "[{}]", '["\\ud800"]', '["\\u0000"]', '["a\\tb"]'):
        with pytest.raises(UserError, match="line 1: the value of 't'"):
            read_jsonl(write(tmp_path, f'{{"t": {value}}}'), text_column="t")
    with pytest.raises(UserError, match="the value of 'l' is a list"):
        read_jsonl(write(tmp_path, '{"t": "a", "l": ["b"]}'), text_column="t", label_column="l")


# ---- odd files


@pytest.mark.slow
def test_a_line_of_20_mb(tmp_path):
    text = "word " * 4_000_000
    assert next(read_csv(write(tmp_path, f"text\n{text}\n"), text_column="text")).text == text
    assert next(read_text(write(tmp_path, text, "a.txt"))).text == text
    assert next(read_jsonl(write(tmp_path, json.dumps({"t": text}), "a.jsonl"), text_column="t")).text == text


def test_mixed_line_ends_and_numbers(tmp_path):
    path = write(tmp_path, "text,note,note\r\n1,a,b\n2.50,c,d\r\n-3e5,e,f\n")
    assert [document.text for document in read_csv(path, text_column="text")] == ["1", "2.50", "-3e5"]
    with pytest.raises(UserError, match="'note' more than once"):
        read_csv(path, text_column="note")
    assert [document.text for document in read_text(write(tmp_path, "a\r\nb\nc\r\n", "a.txt"))] == ["a", "b", "c"]


def test_gzip_in_another_encoding(tmp_path):
    path = write(tmp_path, gzip.compress("\n".join(KOREAN).encode("utf-16")), "a.txt.gz")
    assert [document.text for document in read_text(path)] == KOREAN
