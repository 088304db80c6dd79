"""What every reader must do, which reader a file gets, and what plain text adds."""

import gzip
import inspect
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_cases import CASES, read_jsonl, read_text

from quorem.config.settings import ReadingSettings
from quorem.data.documents import Document, RowCounts
from quorem.data.readers import READERS, choose_format, compression
from quorem.errors import UserError

# format -> name of a file, what stands above the texts, the columns to read it with; one text a line in all of them
FILES = {
    "csv": ("a.csv", b"text\n", {"text_column": "text"}),
    "jsonl": ("a.jsonl", b"", {"text_column": "text"}),
    "text": ("a.txt", b"", {}),
}
AROUND = {"jsonl": (b'{"text": "', b'"}')}  # what stands before and after a text in its line
formats = pytest.mark.parametrize("kind", FILES)  # those of lines; for the others see test_midi.py
zipped = pytest.mark.parametrize("ending", ["", ".gz"])


def lines_of(kind, content):
    """Texts in lines, as that format has them."""
    before, after = AROUND.get(kind, (b"", b""))
    lines = [(text.removesuffix(b"\r"), text.endswith(b"\r")) for text in content.split(b"\n")]
    return b"\n".join(before + text + after + b"\r" * end if text else text for text, end in lines)


def write(folder, kind, content, ending=""):
    """A file of that format with the texts in the lines of content."""
    name, head, _ = FILES[kind]
    path = folder / (name + ending)
    content = head + lines_of(kind, content)
    path.write_bytes(gzip.compress(content) if ending else content)
    return path


def read(kind, path, **more):
    return READERS[kind].read(path, **FILES[kind][2], **more)


def failure_of(kind, path):
    with pytest.raises(UserError) as caught:
        list(read(kind, path))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@formats
@zipped
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_texts_come_as_written_in_order_with_their_row(tmp_path, kind, ending, end):
    texts = [" x ", "fünf\t東京 \u2028 \x0c", "z"]
    path = write(tmp_path, kind, end.join(text.encode() for text in texts), ending)
    assert list(read(kind, path)) == [Document(text, None, row) for row, text in enumerate(texts, 1)]


@formats
@zipped
def test_a_byte_order_mark_is_not_text(tmp_path, kind, ending):
    name, head, _ = FILES[kind]
    content = b"\xef\xbb\xbf" + head + lines_of(kind, b"a\n")
    path = tmp_path / (name + ending)
    path.write_bytes(gzip.compress(content) if ending else content)
    assert [document.text for document in read(kind, path)] == ["a"]


@formats
def test_blank_rows_are_counted_at_every_moment_and_over_files(tmp_path, kind):
    path = write(tmp_path, kind, b"".join(b"x\n" if n % 3 else b" \n" for n in range(1, 20)) + b"end")
    counts = RowCounts()
    for _ in range(2):
        for document in read(kind, path, counts=counts):
            assert counts.read == counts.used + counts.skipped
            assert document.row % 3 or document.text == "end"
    assert counts == RowCounts(read=40, used=28, skipped=12)


@formats
def test_reading_is_streamed(tmp_path, kind):
    documents = read(kind, write(tmp_path, kind, b"good\n" * 5 + b"bad \xff\n"))
    assert [next(documents).row for _ in range(5)] == [1, 2, 3, 4, 5]
    with pytest.raises(UserError):
        next(documents)


@formats
def test_unread_and_half_read_files_are_closed(tmp_path, kind):
    path = write(tmp_path, kind, b"a\nb\n")  # a file left open is a ResourceWarning, which fails the test
    read(kind, path)
    next(read(kind, path))


@formats
def test_missing_file_and_folder_are_named_at_the_call(tmp_path, kind):
    for path, words in (
        (tmp_path / "absent", "does not exist"),
        (tmp_path / "no.gz", "does not"),
        (tmp_path, "folder"),
    ):
        with pytest.raises(UserError, match=words):
            read(kind, path)


@formats
@pytest.mark.parametrize(("error", "words"), [(PermissionError, "permission"), (OSError, "No space")])
def test_a_file_that_cannot_be_opened(tmp_path, monkeypatch, kind, error, words):
    def refuse(*_):
        raise error(28, "No space")

    monkeypatch.setattr(compression, "open", refuse, raising=False)
    assert words in failure_of(kind, write(tmp_path, kind, b"a\n"))


@formats
@zipped
def test_an_empty_file(tmp_path, kind, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(gzip.compress(b"") if ending else b"")
    assert "is empty" in failure_of(kind, path)


@formats
@zipped
def test_bad_bytes_are_found_to_the_line_and_byte(tmp_path, kind, ending):
    head = FILES[kind][1]
    line = 3 + head.count(b"\n")
    before = len(head) + len(lines_of(kind, b"a\nb\n")) + len(AROUND.get(kind, [b""])[0])
    message = failure_of(kind, write(tmp_path, kind, b"a\nb\ncaf\xe9\n", ending))
    assert f"line {line}: byte 0xe9 at byte offset {before + 3} is not UTF-8" in message
    message = failure_of(kind, write(tmp_path, kind, b"a\nb\nc\0\n", ending))
    assert f"line {line}: NUL byte at byte offset {before + 1}" in message


@formats
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b"text\na\n", mtime=0), "add .gz"),
        (b"PK\x03\x04rest", "zip archive"),
    ],
)
def test_files_of_another_format_are_recognised(tmp_path, kind, content, words):
    path = tmp_path / "data"
    path.write_bytes(content)
    assert words in failure_of(kind, path)


@formats
def test_damaged_gzip(tmp_path, kind):
    path = tmp_path / "a.gz"
    whole = gzip.compress(b"text\n" + b"".join(b"row %d\n" % (n * 7919) for n in range(5000)))
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 40]) + whole[middle + 40 :]
    for broken in (whole[:middle], whole[:-4], flipped, b"text\na\n"):
        path.write_bytes(broken)
        assert "gzip" in failure_of(kind, path)


@formats
def test_a_carriage_return_inside_is_named(tmp_path, kind):
    assert "carriage return" in failure_of(kind, write(tmp_path, kind, b"a\rb\rc\r\n"))


# ---- all of them


@pytest.mark.parametrize("kind", READERS)
def test_what_a_reader_does_without_options_is_what_the_settings_say(kind):
    parameters = inspect.signature(READERS[kind].open).parameters
    for name in READERS[kind].options:
        assert parameters[name].default == getattr(ReadingSettings(), name), name
    assert set(parameters) - {"path", "names", "counts"} == set(READERS[kind].options)


def test_every_format_with_rows_has_a_case():
    assert CASES.keys() == {name for name, reader in READERS.items() if not reader.by_folder}


@pytest.mark.parametrize("kind", CASES)
def test_documents_and_the_table_of_a_file_are_the_same_rows(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    reader, case, texts = READERS[kind], CASES[kind], ["a b", "fünf 東京", "c"]
    path, counts = tmp_path / f"a{reader.endings[0]}", RowCounts()
    path.write_bytes(case.write(texts))
    assert choose_format(path) == kind
    documents = list(reader.read(path, counts=counts, text_column=case.text_column))
    assert [document.text for document in documents] == [case.shown(text) for text in texts]
    assert counts == RowCounts(read=3, used=3)
    table = reader.table(path, text_columns=list(filter(None, [case.text_column])))
    rows = list(table.rows)
    assert [(row.number, row.text) for row in rows] == [(document.row, document.text) for document in documents]
    if table.columns is not None:
        assert all(len(row.values([])) == len(table.columns) for row in rows)


@pytest.mark.parametrize("kind", CASES)
def test_a_file_that_is_dropped_unread_is_closed_and_a_missing_one_named_at_the_call(tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    reader, case = READERS[kind], CASES[kind]
    path = tmp_path / f"a{reader.endings[0]}"
    path.write_bytes(case.write(["a b", "c"]))
    reader.read(path, text_column=case.text_column)  # a file left open is a ResourceWarning, which fails the test
    reader.table(path, text_columns=list(filter(None, [case.text_column])))
    next(reader.read(path, text_column=case.text_column))
    with pytest.raises(UserError, match="does not exist"):
        reader.read(tmp_path / f"absent{reader.endings[0]}", text_column=case.text_column)


@pytest.mark.parametrize("kind", [name for name, reader in READERS.items() if not reader.has_columns])
def test_a_column_is_refused_where_there_are_none(tmp_path, kind):
    path = tmp_path / f"a{READERS[kind].endings[0]}"
    path.write_bytes(b"a X\n")
    for call in (
        lambda: READERS[kind].read(path, text_column="no"),
        lambda: READERS[kind].table(path, text_columns=["no"]),
    ):
        with pytest.raises(UserError, match="'no'"):
            call()


# ---- the choice


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text"),
        ("A.TXT.GZ", "text"),
        ("a.csv", "csv"),
        ("a.tsv.gz", "csv"),
        ("a.txt.csv", "csv"),
        ("", "csv"),
        ("a.jsonl", "jsonl"),
        ("a.NDJSON.gz", "jsonl"),
        ("a.gz", "csv"),
    ],
)
def test_the_format_goes_by_the_name_unless_it_is_set(name, expected):
    assert choose_format(name) == expected
    assert [choose_format(name, kind) for kind in READERS] == list(READERS)
    with pytest.raises(
        UserError,
        match=f"data.format=txt: unknown.*Allowed: {', '.join(sorted(['auto', *READERS]))}",
    ):
        choose_format(name, "txt")


# ---- plain text


@pytest.mark.slow
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n")), min_size=1))
def test_lines_that_are_not_blank_are_the_documents(tmp_path_factory, texts):
    path = tmp_path_factory.getbasetemp() / "lines.txt"
    path.write_bytes(b"\xef\xbb\xbf" + "\n".join([*texts, "end"]).encode())
    kept = [Document(text, None, row) for row, text in enumerate([*texts, "end"], 1) if text.strip()]
    assert list(read_text(path)) == kept


def test_text_without_a_line_that_can_be_used(tmp_path):
    assert "all 2 lines are blank" in failure_of("text", write(tmp_path, "text", b" \n\r\n"))
    assert "all 1 lines are blank" in failure_of("text", write(tmp_path, "text", b"\xef\xbb\xbf"))


def test_text_has_no_columns(tmp_path):
    path = write(tmp_path, "text", b"a\n")
    with pytest.raises(UserError, match="no column 'review'"):
        read_text(path, text_column="review")
    with pytest.raises(UserError, match=r"no column 'text' or 'label'.*labels too, need a CSV"):
        read_text(path, text_column="text", label_column="label")


# ---- JSON Lines


def test_values_are_texts_as_written(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"n": [1, {"x": null}], "text": "a\\nb \\u00e9\\ud83d\\ude00", "label": 1}\n'
        '{"text": 3.50, "label": true}\n{"label": "x", "text": null}\n\n{"text": "c", "label": null}\n'
        '{"text": 123456789012345678901234567890, "label": "y"}',
        encoding="utf-8",
    )
    counts = RowCounts()
    assert list(read_jsonl(path, text_column="text", label_column="label", counts=counts)) == [
        Document("a\nb é😀", "1", 1),
        Document("3.50", "true", 2),
        Document("123456789012345678901234567890", "y", 6),
    ]
    assert counts == RowCounts(read=6, used=3, skipped=3)
    assert len(list(read_jsonl(path, text_column="text"))) == 4


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('["a"]', "a list, where an object is needed"),
        ('"a"', "a single value, where an object is needed"),
        ("3", "a single value"),
        ('{"text": "a"', "not JSON"),
        ('{"text": "a"} {"text": "b"}', "not JSON (Extra data at character 15)"),
        ('{"text": ["a", ["b"]]}', "the value of 'text' is a list"),
        ('{"text": {"a": "b"}}', "the value of 'text' is an object"),
        ('{"Text": "a"}', "no key 'text'. Did you mean Text?"),
        ('{"text": "a", "text": "b"}', "the key 'text' is in an object twice"),
        ('{"text": "a\\u0000b"}', "NUL character"),
        ('{"text": "a\\ud800"}', "half a character (\\ud800)"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_lines_that_are_no_documents_are_named(tmp_path, line, words):
    path = tmp_path / "a.jsonl"
    for before in ("", '{"text": "good"}\n'):
        path.write_text(before + line + "\n", encoding="utf-8")
        message = failure_of("jsonl", path)
        assert f"line {2 if before else 1}: " in message
        assert words in message


@pytest.mark.slow
@pytest.mark.parametrize("inside", [False, True])
def test_a_key_that_is_twice_among_many_is_found_in_time(tmp_path, inside):
    """Counting each key anew took minutes for so many, and hours for ten times as many."""
    path, keys = tmp_path / "a.jsonl", [*range(200_000), 199_999]
    many = "{" + ", ".join(f'"k{key}": 1' for key in keys) + "}"
    path.write_text(f'{{"text": "a", "more": {many}}}\n' if inside else f'{{"text": "a", {many[1:]}\n')
    began = time.process_time()
    assert f"{path}, line 1: the key 'k199999' is in an object twice" in failure_of("jsonl", path)
    assert time.process_time() - began < 20  # under half a second on a free core
    counts = RowCounts()
    with path.open("a") as file:
        file.write('{"text": "b"}\n')
    assert [each.text for each in read_jsonl(path, text_column="text", bad_rows="skip", counts=counts)] == ["b"]
    assert (counts.read, counts.bad) == (2, 1)


def test_json_lines_of_which_none_can_be_used(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": " "}\n')
    assert "all 2 lines are blank or have a blank text" in failure_of("jsonl", path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "x"]), inner),
    max_leaves=6,
)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(lines=st.lists(json_values.map(json.dumps).map(str.encode) | st.binary(max_size=30), max_size=6))
def test_any_bytes_give_documents_that_add_up_or_one_clear_error(tmp_path_factory, lines):
    path, counts, documents = tmp_path_factory.getbasetemp() / "any.jsonl", RowCounts(), 0
    message = ""
    path.write_bytes(b"\n".join(lines))
    try:
        for document in read_jsonl(path, text_column="text", label_column="label", counts=counts):
            documents += 1
            assert document.text.strip()
            assert document.label.strip()
            document.text.encode()
    except UserError as error:
        message = str(error)
    assert not message or message.startswith(str(path))
    assert message or documents
    assert counts.used == documents
    assert counts.read == counts.used + counts.skipped
