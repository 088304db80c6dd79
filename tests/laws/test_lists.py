"""Lists of items, wherever they stand, are one text: their items with tabs between."""

import csv
import json

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorem.config.settings import DataSettings
from quorem.data.bad_rows import BadRow
from quorem.data.dataset import DatasetSource
from quorem.data.documents import RowCounts
from quorem.data.readers import READERS
from quorem.data.readers.session import parse_items
from quorem.data.source import Source
from quorem.errors import UserError
from quorem.tokenization import encode, train_tokenizer

SESSIONS = [
    ["a b", "c, d", 'say "x"', "back\\slash", "[MASK]", "É", "e\u0301", "👍🏽", "a b"],
    [12, 7, 1.50, "12"],
    ["x\ny"],
]
TEXTS = ["\t".join(map(str, session)) for session in SESSIONS]


def write_lists(folder, kind, sessions=SESSIONS):
    path = folder / f"sessions{READERS[kind].endings[0]}"
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"text": [[str(item) for item in session] for session in sessions]}), path)
    elif kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["text"], *([json.dumps(session)] for session in sessions)])
    elif kind == "jsonl":
        path.write_text("".join(json.dumps({"text": session}) + "\n" for session in sessions), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(session, ensure_ascii=False) + "\n" for session in sessions), "utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "text"])
def test_every_format_gives_the_same_items(tmp_path, kind):
    path = write_lists(tmp_path, kind)
    more = {"lists": True} if "lists" in READERS[kind].options else {}
    found = Source.of(DataSettings(path=str(path), **more), text_column=None)
    assert [document.text for document in found.documents()] == TEXTS
    tokenizer = train_tokenizer(TEXTS, kind="items", separator="\\t", vocab_size=99)
    assert tokenizer.batch_decode(encode(tokenizer, TEXTS)) == TEXTS


def test_rows_of_a_dataset_do_too():
    source = DatasetSource.of_rows([{"text": session} for session in SESSIONS])
    assert [document.text for document in source.documents()] == TEXTS


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t"), min_size=1), max_size=9))
def test_any_items_come_back(items):
    assert parse_items("here", json.dumps(items)).split("\t") == (items or [""])


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\t"), min_size=1) | st.integers(),
        min_size=1,
        max_size=9,
    ),
    st.sampled_from([list, tuple, lambda items: numpy.array(items, dtype=object)]),
)
def test_lists_as_pandas_writes_them_come_back(items, kind):
    written = str(kind(items))  # what pandas puts into a CSV
    assert parse_items("here", written).split("\t") == [str(item) for item in items]


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("['item 11', \"it's\", 'a \\'b\\' \"c\"']", ["item 11", "it's", "a 'b' \"c\""]),
        ("['\\xe9\\n\\\\']", ["\xe9\n\\"]),
        ("[np.str_('a'), np.int64(7), np.float64(1.50)]", ["a", "7", "1.50"]),
        ("['a' 'b c'\n 'd']", ["a", "b c", "d"]),
        ("[1 2 30]", ["1", "2", "30"]),
        ("[1.50, -2, 3e5]", ["1.50", "-2", "3e5"]),
        ("('a',)", ["a"]),
        ("()", [""]),
    ],
)
def test_lists_of_python_and_numpy(text, items):
    assert parse_items("here", text) == "\t".join(items)


@pytest.mark.parametrize("kind", ["csv", "text"])
def test_a_list_that_is_not_read_as_one_is_warned_of_once(tmp_path, caplog, kind):
    path = write_lists(tmp_path, kind)
    for _ in range(2):
        list(Source.of(DataSettings(path=str(path)), text_column=None).documents())
    (record,) = caplog.records
    assert "row 1: the text is a list" in record.getMessage()
    assert "data.lists=true" in record.getMessage()


@pytest.mark.parametrize("first", ["[sic] a text", "[1]", "[]", "a", "(1, 2)"])
def test_what_is_no_list_of_several_items_is_not(tmp_path, caplog, first):
    (tmp_path / "a.txt").write_text(f"{first}\n['a', 'b']\n")
    list(Source.of(DataSettings(path=str(tmp_path / "a.txt")), text_column=None).documents())
    assert not caplog.records


@pytest.mark.parametrize(
    "text",
    [
        *(
            "['a' 'b', 'c']",
            "['a',]",
            "['a', None]",
            "['a', nan]",
            f"[{'1234567, ' * 60}nan]",
            "[1 ... 9]",
            "['a'",
            "['\\d']",
            "[a, b]",
            "{'a'}",
        ),
        *("['a', ['b']]", "('a' 'b')", "[" + "'a" * 9999, "['" + "\\" * 9999),
        *("a b", '["a"', '["a",]', "{}", '"a"', "12", "[null]", "[true]", "[[1]]", "[NaN]", "[" * 9999),
        *(r'["a\tb"]', r'["\ud800"]', r'["\u0000"]'),
    ],
)
def test_what_is_no_list_is_named_or_skipped(tmp_path, text):
    with pytest.raises(BadRow, match=r"^here"):
        parse_items("here", text)
    path = tmp_path / "a.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], ['["a"]'], [text]])
    read = READERS["csv"].read
    with pytest.raises(UserError, match=r"row 2 \(line 3\)"):
        list(read(path, text_column="text", lists=True))
    counts = RowCounts()
    assert len(list(read(path, text_column="text", lists=True, counts=counts, bad_rows="skip"))) == 1
    assert (counts.read, counts.used, counts.skipped, counts.bad) == (2, 1, 1, 1)


@pytest.mark.parametrize("blank", ["", " ", "[]", '[""]'])
def test_an_empty_list_is_a_blank_text(blank):
    assert not parse_items("here", blank)
