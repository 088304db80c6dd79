"""Strategies for files: tables and JSON Lines as people and programs write them, spoilt or not, and any bytes."""

import csv
import io
import json
import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FILES = int(os.environ.get("QUOREM_FUZZ", "100"))
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


WRITTEN = (  # how tables are written: as data.quoting names it, or without care
    *({"quoting": csv.QUOTE_ALL}, {"quoting": csv.QUOTE_MINIMAL}, {"quoting": csv.QUOTE_NONNUMERIC}),
    *({"doublequote": False, "escapechar": "\\"}, {"quoting": csv.QUOTE_ALL, "doublequote": False, "escapechar": "\\"}),
    None,
)


@st.composite
def tables(draw):
    """A table as csv writes it in some quoting and encoding, with bytes put in or taken away."""
    buffer = io.StringIO(newline="")
    delimiter, end = draw(st.sampled_from(",;\t|")), draw(st.sampled_from(["\n", "\r\n"]))
    rows = [["text", "label"], *draw(st.lists(st.lists(fields, min_size=1, max_size=3), max_size=6))]
    how = draw(st.sampled_from(WRITTEN))
    if how is None:
        buffer.writelines(delimiter.join(row) + end for row in rows)
    else:
        csv.writer(buffer, delimiter=delimiter, lineterminator=end, **how).writerows(rows)
    content = buffer.getvalue().encode(draw(encodings) or "utf-8", errors="replace")
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.just(b"") | pieces) + content[at + draw(st.integers(0, 2)) :]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | fields,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "x"]), inner),
    max_leaves=6,
)
ODD_VALUES = (  # as they may be written, but json.dumps would not
    *("NaN", "-Infinity", "1e999", "-0", "1.50", "9" * 5_000, "[" * 200 + "]" * 200, "[" * 3_000, '{"a": ' * 300),
    *(
        '"\\ud800"',
        '"\\u0000"',
        '"\t"',
        '"\u2028\x85\x0b"',
        '"\ufeff"',
        '"👩🏽‍🚀e\u0301\u202e"',
        "'a'",
        "tru",
        "1.",
        '{"x": {"x": 1, "x": 2}}',
    ),
)
ODD_KEYS = ("text", "label", "", "\ufeff", "te\u0301xt", "file", "prediction", "\\u0074ext")
written = (
    values.map(json.dumps) | values.map(lambda each: json.dumps(each, ensure_ascii=False)) | st.sampled_from(ODD_VALUES)
)


@st.composite
def any_objects(draw):
    """An object whose keys may be there twice."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(ODD_KEYS) | fields, written), max_size=5))
    return (
        "{" + ",".join(f"{draw(st.sampled_from(['', ' ']))}{json.dumps(name)}: {value}" for name, value in pairs) + "}"
    )


objects = st.fixed_dictionaries({"text": values, "label": values}).map(json.dumps) | written | any_objects()


@st.composite
def json_lines(draw):
    """Lines of JSON in some encoding, with bytes put in or taken away."""
    content = "\n".join(draw(st.lists(objects, max_size=6))).encode(draw(encodings) or "utf-8", errors="replace")
    at = draw(st.integers(0, len(content)))
    return content[:at] + draw(st.just(b"") | pieces) + content[at + draw(st.integers(0, 2)) :]
