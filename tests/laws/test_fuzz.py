"""Any file at all: documents that add up, or one clear error that names it. QUOREM_FUZZ=10000 tries so many files."""

import csv
import io
import json
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorem.data.documents import RowCounts
from quorem.data.readers.csv import read_csv
from quorem.data.readers.jsonl import read_jsonl
from quorem.data.readers.text import read_text
from quorem.errors import UserError

FILES = int(os.environ.get("QUOREM_FUZZ", "300"))
fuzzed = settings(max_examples=FILES, deadline=None, suppress_health_check=list(HealthCheck))
ENCODINGS = (None, "utf-8", "cp949", "latin-1", "shift_jis", "gb18030", "utf-16", "utf-16-be", "utf-32", "utf-7")

encodings = st.sampled_from(ENCODINGS)
bad_rows = st.sampled_from(["error", "skip"])
delimiters = st.sampled_from([None, ",", ";", "\\t", "|", " ", "x"])
quotings = st.sampled_from(["auto", "standard", "none", "backslash"])
FIELDS = ("text", "label", "a", "", " ", '"', '""', 'a"b', "\r", "\n", "\0", "영화", "\ufeff", "x;y,z|\t")
PIECES = (
    *(b"text", b"label", b"a", b" ", b",", b";", b"\t", b"|", b'"', b'""', b"\n", b"\r\n", b"\r", b"\0", b"\xff"),
    *(b"\xe9", b"\xef\xbb\xbf", b"\xff\xfe", b"text,label\n", b"text;label\n", b"a,b\n", b'"a\nb",c\n'),
    *("영화".encode(), "영화".encode("cp949"), b"\\", b'\\"', b"sep=;\n", b'"text\tlabel', b'"a,b\nc,d\ne",f\n'),
)
fields = st.sampled_from(FIELDS) | st.text(max_size=8)
pieces = st.sampled_from(PIECES)
anything = st.lists(pieces | st.binary(max_size=4), max_size=20).map(b"".join)


@st.composite
def tables(draw):
    """A table as csv writes it in some encoding, with bytes put in or taken away."""
    buffer = io.StringIO(newline="")
    delimiter = draw(st.sampled_from(",;\t|"))
    writer = csv.writer(
        buffer, delimiter=delimiter, lineterminator=draw(st.sampled_from(["\n", "\r\n"])), quoting=csv.QUOTE_ALL
    )
    writer.writerow(["text", "label"])
    writer.writerows(draw(st.lists(st.lists(fields, min_size=1, max_size=3), max_size=6)))
    content = buffer.getvalue().encode(draw(encodings) or "utf-8", errors="replace")
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.just(b"") | pieces) + content[at + draw(st.integers(0, 2)) :]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | fields,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "x"]), inner),
    max_leaves=6,
)
objects = st.fixed_dictionaries({"text": values, "label": values}).map(json.dumps) | values.map(json.dumps)


@st.composite
def json_lines(draw):
    """Lines of JSON in some encoding, with bytes put in or taken away."""
    content = "\n".join(draw(st.lists(objects, max_size=6))).encode(draw(encodings) or "utf-8", errors="replace")
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.just(b"") | pieces) + content[at + draw(st.integers(0, 2)) :]


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


@fuzzed
@given(content=json_lines() | anything, choice=bad_rows, encoding=encodings, label=st.booleans())
def test_any_json_lines(tmp_path_factory, content, choice, encoding, label):
    columns = {"text_column": "text", "label_column": "label" if label else None}
    check(tmp_path_factory, read_jsonl, "any.jsonl", content, bad_rows=choice, encoding=encoding, **columns)


@fuzzed
@given(
    content=json_lines() | anything,
    choice=bad_rows,
    encoding=encodings,
    documents=st.sampled_from(["line", "paragraph"]),
)
def test_any_text(tmp_path_factory, content, choice, encoding, documents):
    check(tmp_path_factory, read_text, "any.txt", content, bad_rows=choice, encoding=encoding, documents=documents)


@fuzzed
@given(content=tables() | anything, encoding=encodings, delimiter=delimiters, quoting=quotings)
def test_skipping_loses_nothing_that_comes_before_the_first_error(
    tmp_path_factory, content, encoding, delimiter, quoting
):
    more = {"text_column": "text", "encoding": encoding, "delimiter": delimiter, "quoting": quoting}
    before = check(tmp_path_factory, read_csv, "same.csv", content, bad_rows="error", **more)
    assert check(tmp_path_factory, read_csv, "same.csv", content, bad_rows="skip", **more) >= before
