"""What stands at the top of a CSV file: a header, none, one more further down, a spreadsheet's line, or JSON."""

import pytest
from reader_cases import read_csv, read_jsonl

from quorem.data.documents import Document, RowCounts
from quorem.data.readers.csv import read_rows
from quorem.errors import UserError, did_you_mean

MARK = "\ufeff"


def write(folder, content, name="a.csv"):
    path = folder / name
    path.write_bytes(content.encode())
    return path


def read(path, text="text", label="label", **more):
    counts = RowCounts()
    found = list(read_csv(path, text_column=text, label_column=label, counts=counts, **more))
    assert counts.read == counts.used + counts.skipped
    return [(item.row, item.text, item.label) for item in found]


def failure(path, **more):
    with pytest.raises(UserError) as caught:
        read(path, **more)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---- a header once more


@pytest.mark.parametrize("again", ["text,label", MARK + "text,label", MARK + '"text","label"', '"text","label"'])
@pytest.mark.parametrize("bad_rows", ["error", "skip"])
def test_a_header_inside_the_file_is_no_row_and_told_once(tmp_path, caplog, again, bad_rows):
    path = write(tmp_path, f"text,label\na,x\n{again}\nb,y\n")
    for _ in range(2):
        assert read(path, bad_rows=bad_rows) == [(1, "a", "x"), (3, "b", "y")]
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}, row 2 (line 3): repeats the header, as where files were joined: left out, for it is no row"
    ]


def test_many_headers_are_one_line(tmp_path, caplog):
    path = write(tmp_path, "text,label\na,x\n" * 50)
    assert len(read(path)) == 50
    one, all_of_them = (record.getMessage() for record in caplog.records)
    assert f"{path}, row 2 (line 3): repeats the header" in one
    assert all_of_them == f"{path}: 49 rows in all repeat the header"


def test_the_name_of_a_single_column_may_be_a_text(tmp_path, caplog):
    path = write(tmp_path, f"text\na\ntext\n{MARK}text\nb\n")
    assert list(read_csv(path, text_column="text")) == [Document("a", None, 1), Document("text", None, 2),
                                                        Document("b", None, 4)]  # fmt: skip
    assert len(caplog.records) == 1


# ---- a spreadsheet's line


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", MARK + "sep=;"])
@pytest.mark.parametrize("chosen", [None, ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_names_the_delimiter_is_taken(tmp_path, line, chosen, end):
    path = write(tmp_path, end.join([line, "text;label", "a, b;x", ""]))
    assert read(path, delimiter=chosen) == [(1, "a, b", "x")]
    assert read(path, text="1", label="2", header=False, delimiter=chosen)[0] == (1, "text", "label")
    assert read_rows(path)[0] == ["text", "label"]


def test_a_tab_may_be_named_and_lines_are_counted(tmp_path):
    path = write(tmp_path, "sep=\t\ntext\tlabel\na\tx\nb\n")
    assert "row 2 (line 4): found 1 fields" in failure(path)


# ---- none


def test_columns_of_a_file_without_a_header_are_numbers(tmp_path):
    path = write(tmp_path, "x,1,a film\ny,2,a book\n\n")
    assert read(path, text="3", label="1", header=False) == [(1, "a film", "x"), (2, "a book", "y")]
    names, rows = read_rows(path)  # with one
    assert (names, [number for number, _ in rows]) == (["x", "1", "a film"], [1])
    path = write(tmp_path, "x;a film\ny;a book\nz\n")
    assert read(path, text="2", label="1", header=False, bad_rows="skip")[1:] == [(2, "a book", "y")]
    assert "row 3 (line 3): found 1 fields, expected 2 as in the first row" in failure(
        path, text="2", label="1", header=False
    )


def test_a_row_that_equals_the_first_is_a_row_without_a_header(tmp_path):
    assert len(read(write(tmp_path, "a,x\na,x\n"), text="1", label="2", header=False)) == 2


@pytest.mark.parametrize("column", ["text", "0", "4", "-1", "1.0", "01"])
def test_a_column_that_is_none_of_the_numbers_is_named(tmp_path, column):
    message = failure(write(tmp_path, "x,1,a film\n"), text=column, label="1", header=False)
    assert f"no column {column!r}: without a header (data.header=false) columns are numbers, 1 to 3" in message


@pytest.mark.parametrize("content", ["0,12,a film", "x,,y", f"x,{'a film ' * 20}", "-1.5,x"])
def test_a_first_row_that_looks_like_data_brings_the_advice(tmp_path, content):
    message = failure(write(tmp_path, content + "\n"))
    assert "set data.header=false" in message
    assert len(message) < 500
    assert "data.header" not in failure(write(tmp_path, "review,sentiment\na,b\n"))
    assert "data.header=false" in failure(write(tmp_path, "review,sentiment\na,b\n"), text="2")


def test_names_with_commas_can_be_told_apart(tmp_path):
    message = failure(write(tmp_path, '"2nd, note",class\na,b\n'), text="none", label="class")
    assert "Allowed: '2nd, note', class." in message


def test_an_empty_file_without_a_header_is_named(tmp_path):
    assert "is empty: add rows" in failure(write(tmp_path, "\n\n"), text="1", label="2", header=False)


# ---- JSON


@pytest.mark.parametrize(
    "start", ['[{"text": "a", "label": 0}, ', '[{"text":"a","label":0},', '[\n{"text": "a"}, ', '[["a", 0], ', "[\n  "]
)
def test_a_json_array_is_named_in_a_short_line(tmp_path, start):
    content = start + ", ".join(['{"text": "b", "label": 1}'] * 5_000) + "]"
    message = failure(write(tmp_path, content, "a.json"))
    assert "is a JSON array" in message
    assert ".jsonl" in message
    assert len(message) < 300 + len(str(tmp_path))
    with pytest.raises(UserError, match="A JSON array is no JSON Lines") as caught:
        read_jsonl(write(tmp_path, content, "a.jsonl"), text_column="text")
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_json_lines_of_another_name_are_named(tmp_path):
    for line in ('{"text": "a", "label": 1}', '{"text":"a","label":1}'):
        assert "set data.format=jsonl" in failure(write(tmp_path, f"{line}\n" * 2, "a.json"))


def test_a_header_of_brackets_is_a_header(tmp_path):
    assert read(write(tmp_path, "[id],text,label\n1,a,x\n")) == [(1, "a", "x")]
    assert "no column 'text'" in failure(write(tmp_path, "[id],label\n1,x\n"))


def test_names_in_messages_have_an_end():
    message = did_you_mean("text", [f"{number} {'x' * 1000}" for number in range(1_000)])
    assert len(message) < 10_000
    assert "and 900 more" in message


def test_a_space_around_a_name_is_seen(tmp_path):
    assert failure(write(tmp_path, "text, label\na,x\n")).endswith("Did you mean ' label'? Allowed: ' label', text.")


def test_the_last_part_of_a_setting_is_enough_for_a_hint():
    names = ["model.size", "model.embedding.kind", "model.head.kind", *(f"train.x{number}" for number in range(20))]
    assert did_you_mean("size", names) == " Did you mean model.size?"
    assert did_you_mean("Size", names) == " Did you mean model.size?"
    assert did_you_mean("text", ["Text", "meta.text"]).startswith(" Did you mean Text?")
    assert len(did_you_mean("text", [f"{number}{'x' * 900}.text" for number in range(1_000)])) < 500
    assert did_you_mean("kind", names) == " Did you mean model.embedding.kind or model.head.kind?"
