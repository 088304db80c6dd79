"""SQuAD's JSON, read as documents and as a table, and written as answers; what stands in its columns."""

import gzip
import json

import pytest

from quorem.data.documents import RowCounts
from quorem.data.readers import READERS, choose_format, known_format
from quorem.data.readers.squad import COLUMNS
from quorem.data.readers.table import Column, TableRow
from quorem.data.source import find_format
from quorem.data.writers import Head, Line, choose_writer
from quorem.data.writers.squad import write_squad
from quorem.errors import UserError
from quorem.finetuning.questions import find_answer, parse_answers

read_squad, read_squad_table = READERS["squad"].read, READERS["squad"].table


def question(number, answers=None, **more):
    found = {"id": f"q{number}", "question": f"what is {number}?"}
    return found | ({} if answers is None else {"answers": answers}) | more


def answer(text, start):
    return {"text": text, "answer_start": start}


DATA = {
    "version": "v2.0",
    "data": [
        {
            "title": "One",
            "paragraphs": [
                {"context": " one\ntwo ", "qas": [question(1, [answer("one", 1), answer("two", 5)]), question(2, [])]},
                {"context": "three", "qas": []},
            ],
        },
        {
            "title": "Two",
            "paragraphs": [
                {"context": "four", "qas": [question(3, [answer("x", 0)], is_impossible=True), question(4)]},
            ],
        },
    ],
}


def write(folder, content, name="x.json"):
    path = folder / name
    body = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(gzip.compress(body.encode()) if name.endswith(".gz") else body.encode())
    return path


@pytest.mark.parametrize("name", ["x.json", "x.json.gz"])
def test_a_row_is_a_question(tmp_path, name):
    path, counts = write(tmp_path, DATA, name), RowCounts()
    assert (choose_format(path), known_format(path)) == ("squad", None)
    found = list(read_squad(path, text_column="context", more_columns=("question", "answers", "id"), counts=counts))
    assert [each.row for each in found] == [1, 2, 3, 4]
    assert [each.text for each in found] == [" one\ntwo "] * 2 + ["four"] * 2
    assert [each.more[0] for each in found] == [f"what is {number}?" for number in (1, 2, 3, 4)]
    answers = [None if each.more[1] is None else json.loads(each.more[1]) for each in found]
    empty = {"text": [], "answer_start": []}
    assert answers == [{"text": ["one", "two"], "answer_start": [1, 5]}, empty, empty, None]
    assert (counts.read, counts.used) == (4, 4)


def test_a_row_is_a_paragraph_where_only_contexts_are_asked_for(tmp_path):
    found = list(read_squad(write(tmp_path, DATA), text_column="context", label_column="title"))
    assert [(each.text, each.label) for each in found] == [(" one\ntwo ", "One"), ("three", "One"), ("four", "Two")]


@pytest.mark.parametrize(
    ("name", "split"),
    [("train-v2.0.json", "train"), ("dev.json.gz", "dev"), ("KorQuAD_v1.0_dev.json", "dev"), ("x.json", None),
     ("train_test.json", None), ("training.json", None)],
)  # fmt: skip
def test_the_name_of_a_file_says_its_split(tmp_path, name, split):
    assert {each.split for each in read_squad(write(tmp_path, DATA, name), text_column="context")} == {split}


def test_a_table_has_every_question(tmp_path):
    table = read_squad_table(write(tmp_path, DATA), text_columns=["text", "question"])
    assert (table.text_column, [column.name for column in table.columns]) == ("question", list(COLUMNS))
    rows = list(table.rows)
    assert [row.text for row in rows] == [f"what is {number}?" for number in (1, 2, 3, 4)]
    assert rows[0].values(COLUMNS)[-1] == {"text": ["one", "two"], "answer_start": [1, 5]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"a": 1}\n{"a": 2}\n', "looks like JSON Lines: name it .jsonl, or set data.format=jsonl"),
        ("[{}]", "a list, not SQuAD's format"),
        ('{"date": []}', "has no list \"data\" (its keys are 'date')"),
        ('{"data": [{"paragraph": []}]}', 'entry 1 of "data" has no list "paragraphs"'),
        ('{"data": []}', "has no question"),
    ],
)
def test_what_is_no_such_file_is_named(tmp_path, content, said):
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        list(read_squad(path, text_column="context", more_columns=("question",)))
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"id": 7, "answers": []}, "question 2 (id 7): 'question' is missing"),
        (question(2, {"text": "x"}), '"answers" is no list of objects'),
        (question(2, ["x"]), '"answers" is no list of objects'),
        (question(2, [answer(3, 0)]), "'text' is no text"),
        (question(2, question="a\0"), "NUL character"),
        ("x", 'question 2: no object with "question"'),
    ],
)
def test_a_bad_question_is_named_or_skipped(tmp_path, wrong, said):
    questions = [question(1, [answer("a", 0)]), wrong, question(3, [])]
    path = write(tmp_path, {"data": [{"title": "t", "paragraphs": [{"context": "a b", "qas": questions}]}]})
    how = {"text_column": "context", "more_columns": ("question", "answers")}
    with pytest.raises(UserError) as caught:
        list(read_squad(path, **how))
    assert said in str(caught.value)
    counts = RowCounts()
    assert [each.row for each in read_squad(path, **how, bad_rows="skip", counts=counts)] == [1, 3]
    assert (counts.read, counts.bad) == (3, 1)


def test_an_unknown_column_is_named(tmp_path):
    path = write(tmp_path, DATA)
    with pytest.raises(UserError, match=r"no column 'contexts'\. Did you mean context"):
        read_squad(path, text_column="contexts")
    with pytest.raises(UserError, match="no column 'text'"):
        read_squad_table(path, text_columns=["text"])


def test_json_beside_other_data_in_a_folder_is_not_read(tmp_path):
    write(tmp_path, DATA, "about.json")
    assert find_format(str(tmp_path))[1] == "squad"
    (tmp_path / "a.csv").write_text("text\na\n")
    files, format = find_format(str(tmp_path))
    assert ([file.name for file in files], format) == (["a.csv"], "csv")


# ---- answers


def test_answers_are_written_by_id(tmp_path):
    path, head = tmp_path / "out.json", Head([], [Column("id"), Column("question")], [Column("prediction")])
    rows = [("é", 'a "b"'), (7, None), ("8", "")]
    lines = [
        Line({}, TableRow(number, cells=[name, "?"]), {"prediction": said}) for number, (name, said) in enumerate(rows)
    ]
    with write_squad(path, head) as save:
        save(lines[:2])
        save(lines[2:])
    assert json.loads(path.read_text(encoding="utf-8")) == {"é": 'a "b"', "7": "", "8": ""}
    with write_squad(tmp_path / "none.json", head):
        pass
    assert json.loads((tmp_path / "none.json").read_text()) == {}


@pytest.mark.parametrize(("second", "said"), [("a", "the id 'a', which another row has"), (None, "no id")])
def test_rows_without_an_id_of_their_own_are_refused(tmp_path, second, said):
    head = Head([], [Column("id")], [Column("prediction")])
    lines = [Line({}, TableRow(number, cells=[name]), {"prediction": "x"}) for number, name in ((1, "a"), (2, second))]
    with pytest.raises(UserError, match=said), write_squad(tmp_path / "out.json", head) as save:
        save(lines)
    assert not (tmp_path / "out.json").exists()


def test_json_is_written_of_answers_only(tmp_path):
    assert choose_writer(tmp_path / "x.json", answers=True).open is write_squad
    with pytest.raises(UserError, match=r"nothing is written as \.json"):
        choose_writer(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("value", "start", "answers"),
    [
        ('{"text": ["a", "b"], "answer_start": [1, "2"]}', None, [("a", 1), ("b", 2)]),
        ('{"text": [], "answer_start": []}', None, []),
        ('{"text": "a", "answer_start": 3}', None, [("a", 3)]),
        ('{"text": null, "answer_start": null}', None, []),
        ('{"text": ["a"], "answer_start": [3.0]}', None, [("a", 3)]),
        ('[{"text": "a", "answer_start": 3}, {"text": " "}]', None, [("a", 3)]),
        ('["a", "b"]', None, [("a", None), ("b", None)]),
        ("[a]", "4", [("[a]", 4)]),
        ("a", None, [("a", None)]),
        ("a", " ", [("a", None)]),
        (" ", "-1", []),
        ("", None, []),
    ],
)
def test_answers_may_be_written_in_several_ways(value, start, answers):
    assert parse_answers(value, start) == answers


@pytest.mark.parametrize(
    ("value", "start"),
    [
        ('{"text": ["a"], "answer_start": [1, 2]}', None),
        ("[3]", None),
        ("a", "x"),
        ('{"text": [1]}', None),
        ('{"text": ["a"], "answer_start": 5}', None),
        ('{"text": ["a"], "answer_start": [[1]]}', None),
        ('{"text": 7}', None),
        ('{"text": ["a"], "answer_start": [1.5]}', None),
        ('{"text": ["a"], "answer_start": [true]}', None),
    ],
)
def test_answers_of_another_form_are_an_error(value, start):
    with pytest.raises(ValueError):  # noqa: PT011 - whoever reads the row says which
        parse_answers(value, start)


@pytest.mark.parametrize(("start", "found"), [(4, 4), (None, 0), (3, 4), (1, 0), (-5, 0), (99, 8)])
def test_an_answer_is_looked_for_where_it_is_nearest(start, found):
    assert find_answer("ab, ab, ab", "ab", start) == found
    assert find_answer("ab", "abc", start) is None
