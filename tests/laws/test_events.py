"""Logs of events: grouped and sorted as a naive twin does it, counted, in every shape, and refused in one line."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from event_cases import COLUMNS, log_of, read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorem.config.events import is_log, parse_span
from quorem.config.next_item import SessionDataSettings
from quorem.config.settings import PrepareConfig, TextDataSettings, TokenizerSettings, VocabularySettings
from quorem.data.events import engine, sort
from quorem.data.events.source import EventSource, check_spaces, source_of
from quorem.data.prepare import prepare
from quorem.data.shards import Shards
from quorem.errors import UserError

pytestmark = pytest.mark.slow
pytest.importorskip("duckdb", reason="logs of events need duckdb: pip install 'quorem[events]'")


def naive(rows, *, gap=None, min_item_events=1, min_events=1):
    """The same in memory: sequences in the order of their first events, and how many events are in none, by reason."""
    often = Counter(item for _, item, _ in rows)
    kept = [(number, row) for number, row in enumerate(rows) if often[row[1]] >= min_item_events]
    users = {}
    for number, (user, item, time) in sorted(kept, key=lambda each: (each[1][2], each[0])):
        sessions = users.setdefault(user, [])
        if not sessions or (gap is not None and time - sessions[-1]["last"] > gap):
            sessions.append({"first": (time, number), "items": []})
        sessions[-1]["items"].append(item)
        sessions[-1]["last"] = time
    every = sorted((each for sessions in users.values() for each in sessions), key=lambda each: each["first"])
    found = [each["items"] for each in every if len(each["items"]) >= min_events]
    short = len(kept) - sum(map(len, found))
    dropped = {"of rare items": len(rows) - len(kept), "of short sequences": short}
    return found, {name: number for name, number in dropped.items() if number}


EVENTS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["x", "y", "Z", "7", "é"]), st.integers(0, 90)))


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(EVENTS, min_size=1, max_size=3),
    gap=st.sampled_from([None, 1, 20]),
    least=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_sequences_are_those_of_a_naive_twin(tmp_path_factory, files, gap, least):
    folder = tmp_path_factory.mktemp("log")
    for number, rows in enumerate(files):
        write(folder / f"{number}.csv", rows)
    expected, dropped = naive(
        [row for rows in files for row in rows], gap=gap, min_item_events=least[0], min_events=least[1]
    )
    source = log_of(
        folder, session_gap=None if gap is None else f"{gap}s", min_item_events=least[0], min_events=least[1]
    )
    if not expected:
        with pytest.raises(UserError, match="can be used"):
            read(source)
        return
    found, counts = read(source)
    assert found == expected
    assert counts.left_out == dropped
    assert (counts.read, counts.used, counts.bad) == (sum(map(len, files)), sum(map(len, expected)), 0)
    assert read(source) == (found, counts)  # again, from what is sorted


@pytest.mark.slow
def test_many_events_do_not_depend_on_threads_or_memory(tmp_path, monkeypatch):
    rows = [(f"u{n * 7919 % 997}", f"i{n % 1013}", 1_600_000_000 + n * 31 % 50_000) for n in range(60_000)]
    path = write(tmp_path / "log.csv", rows)
    expected, _ = naive(rows, gap=600)
    for threads, memory in ((1, "900MB"), (4, "100MB")):
        monkeypatch.setattr(engine, "MOST_THREADS", threads)
        monkeypatch.setattr(engine.os, "cpu_count", lambda count=threads: count)
        monkeypatch.setattr(engine, "MEMORY", memory)
        found, _ = read(log_of(path, session_gap="10min"))
        assert found == expected


def test_lines_are_joined_wherever_blocks_end(tmp_path, monkeypatch):
    (tmp_path / "lines").write_bytes(b"a\n\tb\n\tc\nd\n\te\nf\n")
    for size in range(1, 20):
        monkeypatch.setattr(sort, "BLOCK", size)
        assert list(sort._joined(tmp_path / "lines")) == [b"a\tb\tc", b"d\te", b"f"]


def test_without_times_the_order_of_the_files_counts(tmp_path):
    for number, rows in enumerate(([("b", "x"), ("a", "y")], [("b", "z")])):
        write(tmp_path / f"{number}.csv", rows, header=("user", "item"))
    assert read(log_of(tmp_path, time_column=None))[0] == [["x", "z"], ["y"]]
    for name in ("session_gap", "test_period"):
        with pytest.raises(UserError, match=rf"data.{name}=1d: .* has no column of times"):
            log_of(tmp_path, time_column=None, **{name: "1d"}).documents()


def test_the_last_period_is_the_tests_or_left_out(tmp_path):
    day = 86_400
    rows = [("a", "x", 0), ("a", "y", 2 * day), ("b", "x", day + 1), ("b", "y", 2 * day), ("c", "x", day)]
    path = write(tmp_path / "a.csv", rows)
    found, counts = read(log_of(path, test_period="1d"))
    assert found == [["x", "y"], ["x"]]  # a and c; b begins within the last day
    assert counts.left_out == {"of the last 1d": 2}
    source = source_of(SessionDataSettings(path=str(path), test_period="1d", **COLUMNS), text_column=None)
    assert [(document.text, document.split) for document in source.documents()] == [
        ("x\ty", "train"), ("x", "train"), ("x\ty", "test"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"all sequences begin in the last data.test_period=9d"):
        read(log_of(path, test_period="9d"))


def test_rare_is_what_is_rare_before_the_last_period(tmp_path):
    day = 86_400
    rows = [("a", "x", 0), ("a", "x", 1), ("a", "y", 2), ("b", "y", 3 * day), ("b", "x", 3 * day)]
    found, _ = read(log_of(write(tmp_path / "a.csv", rows), test_period="1d", min_item_events=2))
    assert found == [["x", "x"]]
    with pytest.raises(UserError, match=r"all events are of the last data.test_period=9d: shorten it"):
        read(log_of(tmp_path / "a.csv", test_period="9d", min_item_events=2))
    found, _ = read(log_of(tmp_path / "a.csv", min_item_events=2))
    assert found == [["x", "x", "y"], ["y", "x"]]


def test_fields_in_quotes_with_tabs_between_lose_them(tmp_path):
    (tmp_path / "r.tsv").write_text('"user"\t"item"\t"time"\n"u1"\t"a"\t1\n"u1"\t"b"\t2\n')
    assert read(log_of(tmp_path / "r.tsv", events="auto"))[0] == [["a", "b"]]
    (tmp_path / "head.tsv").write_text('user\titem\ttime\n"u1"\t"a"\t1\n"u1"\t"b"\t2\n')
    assert read(log_of(tmp_path / "head.tsv", events="auto"))[0] == [["a", "b"]]
    (tmp_path / "plain.tsv").write_text('user\titem\ttime\nu1\t"a\t1\nu1\tb"\t2\n')
    assert read(log_of(tmp_path / "plain.tsv", events="auto"))[0] == [['"a', 'b"']]


@pytest.mark.parametrize("time", ["20240131", "31.01.2024", "01/31/2024 18:05"])
def test_dates_of_other_forms_are_no_times_and_the_right_form_is_shown(tmp_path, time):
    (tmp_path / "a.csv").write_text(f"user,item,time\nu,a,{time}\n")
    right = "Unix seconds to nanoseconds, or ISO 8601, needed, such as 2024-01-31 18:05:00"
    with pytest.raises(UserError, match=re.escape(f"{time!r}: {right} (pandas.to_datetime makes it of other forms)")):
        read(log_of(tmp_path / "a.csv", events="auto"))


def test_utf_16_is_named(tmp_path):
    (tmp_path / "a.csv").write_text("user,item,time\nu,a,1\n", encoding="utf-16")
    with pytest.raises(UserError, match=r"a.csv: is UTF-16-LE, and logs of events are read as UTF-8"):
        read(log_of(tmp_path / "a.csv", events="auto"))


def test_of_each_user_the_last_sequence(tmp_path):
    path = write(tmp_path / "a.csv", [("a", "x", 0), ("b", "y", 5), ("a", "z", 9_000), ("a", "w", 9_001)])
    data = TextDataSettings(path=str(path), session_gap="1h", **COLUMNS)
    source = EventSource.of_log(data, latest=True)
    assert [(user, items) for user, _, items in source.sequences()] == [("b", "y"), ("a", "z\tw")]
    assert source.facts().dropped == {"of earlier sequences": 1}


def test_a_very_long_history(tmp_path):
    path = write(tmp_path / "a.csv", [("u", f"item-{n}", n) for n in range(300_000)] + [("v", "x", 7)])
    found, _ = read(log_of(path))
    assert [len(items) for items in found] == [300_000, 1]


def test_items_with_spaces_stay_whole_or_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", [("u", "red shoe", 1), ("u", "hat", 2)])
    config = PrepareConfig(
        data=TextDataSettings(path=str(path), **COLUMNS), tokenizer=TokenizerSettings(kind="items"),
        model=VocabularySettings(100),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"a.csv, row 1: item 'red shoe' has a space, .*tokenizer.separator=\\t"):
        prepare(config, tmp_path / "out")
    meta = prepare(replace(config, tokenizer=TokenizerSettings(kind="items", separator="\\t")), tmp_path / "tabs")
    assert (meta.num_documents, meta.num_tokens, meta.vocab_size) == (1, 3, 7)
    check_spaces(log_of(path), cut=False)
    for kind, words in (("words", "--tokenizer items"), ("items", "items of events have tabs")):
        tokenizer = TokenizerSettings(kind=kind, separator=None if kind == "words" else ",")
        with pytest.raises(UserError, match=words):
            prepare(replace(config, tokenizer=tokenizer), tmp_path / "no")
    assert not (tmp_path / "no").exists()


def test_what_is_prepared_is_kept_and_known_by_its_settings(tmp_path):
    path = write(tmp_path / "a.csv", [("u", f"i{n % 5}", n * 100) for n in range(50)])

    def config(**given):
        data = TextDataSettings(path=str(path), **COLUMNS, **given)
        return PrepareConfig(data=data, tokenizer=TokenizerSettings(kind="items"), model=VocabularySettings(100))

    meta = prepare(config(), tmp_path / "out")
    assert meta.rows == {"read": 50, "used": 50, "skipped": 0, "bad": 0}
    assert not (tmp_path / "out" / "events").exists()
    assert prepare(config(), tmp_path / "out") == meta
    with pytest.raises(UserError, match="it differs in session_gap"):
        prepare(config(session_gap="90s"), tmp_path / "out")
    path.write_text(path.read_text() + "u,i9,7\n")
    with pytest.raises(UserError, match="it differs in data"):
        prepare(config(), tmp_path / "out")


@pytest.mark.parametrize("step", ["sorting", "after sorting"])
def test_a_killed_preparation_leaves_nothing_half_written(tmp_path, monkeypatch, step):
    path = write(tmp_path / "a.csv", [(f"u{n % 9}", f"i{n % 5}", n * 100) for n in range(90)])
    data = TextDataSettings(path=str(path), **COLUMNS)
    config = PrepareConfig(data=data, tokenizer=TokenizerSettings(kind="items"), model=VocabularySettings(100))
    prepare(config, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    place = "quorem.data.events.sort._Sorter._merge" if step == "sorting" else "quorem.data.prepare.write_shards"
    with monkeypatch.context() as patch:
        patch.setattr(place, die)
        if step == "sorting":
            patch.setattr("quorem.files.shutil.rmtree", lambda *_, **__: None)  # as kill -9 leaves it
        with pytest.raises(Killed):
            prepare(config, tmp_path / "out")
    left = sorted(each.name for each in (tmp_path / "out").iterdir() if "events" in each.name)
    assert len(left) == 1
    assert (left == ["events"]) == (step == "after sorting")
    sorts = []
    monkeypatch.setattr(
        "quorem.data.events.source.sort_events", lambda *a, **k: sorts.append(1) or sort.sort_events(*a, **k)
    )
    prepare(config, tmp_path / "out")
    assert len(sorts) == (step == "sorting")  # begun anew, or used again
    assert not [each for each in (tmp_path / "out").iterdir() if "events" in each.name]
    for name in ("tokens.bin", "ends.bin", "counts.bin"):
        assert (tmp_path / "out" / "shards" / name).read_bytes() == (tmp_path / "whole" / "shards" / name).read_bytes()
    assert Shards(tmp_path / "out" / "shards").meta.rows["used"] == 90


def test_rows_from_python(tmp_path):
    rows = [{"user": "u", "item": 4, "time": 2}, {"user": "u", "item": "x", "time": 1}]
    source = EventSource.of_rows(rows, TextDataSettings(**COLUMNS))
    assert read(source)[0] == [["x", "4"]]
    again = EventSource.of_rows(rows, TextDataSettings(**COLUMNS))
    assert (
        source.fingerprint()
        == again.fingerprint()
        != EventSource.of_rows(rows[:1], TextDataSettings(**COLUMNS)).fingerprint()
    )


def test_settings_that_cannot_be(tmp_path):
    path = write(tmp_path / "a.csv", [("u", "x", 1)])
    for wrong, words in (
        ({"user_column": None}, "which column is the user's. It has user, item, time: set data.user_column=NAME"),
        ({"user_column": "usr"}, "data.user_column=usr: no such column in .* Did you mean user"),
        ({"events": "gru4rec", "user_column": None}, "expects SessionId"),
        ({"events": "recbol"}, "data.events=recbol: unknown. Did you mean recbole"),
        ({"session_gap": "30"}, "data.session_gap=30: a number above 0 and one of s, min, h, d, w"),
        ({"session_gap": "0min"}, "data.session_gap=0min: a number above 0"),
        ({"test_period": "1 month"}, "data.test_period=1 month: a number"),
        ({"min_events": 0}, "data.min_events=0: a number at least 1 needed"),
        ({"min_item_events": -1}, "data.min_item_events=-1: a number at least 1 needed"),
        ({"bad_rows": "drop"}, "data.bad_rows=drop: unknown"),
        ({"text_column": "text"}, "data.text_column=text has no meaning for a log"),
        ({"encoding": "cp949"}, "data.encoding=cp949 has no meaning .* save the files as UTF-8"),
        ({"lists": True}, "data.lists=True has no meaning"),
    ):
        with pytest.raises(UserError, match=words):
            log_of(path, **wrong).documents()
    with pytest.raises(UserError, match=r"data.user_column=user: is of logs of events"):
        is_log(TextDataSettings(path=str(path), user_column="user"))
    with pytest.raises(UserError, match="none of its 0 events can be used"):
        read(log_of(write(tmp_path / "none.csv", [])))
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="empty"):
        log_of(tmp_path / "empty.csv").documents()
    with pytest.raises(UserError, match="does not exist"):
        log_of(Path(tmp_path / "no.csv")).documents()
    assert parse_span("key", "1.5h") == parse_span("key", "90 min") == 5_400_000_000


def test_without_the_engine_its_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", [("u", "x", 1)])
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(UserError, match=r"pip install 'quorem\[events\]'"):
        log_of(path).documents()


def test_a_log_given_as_texts_says_what_to_do(tmp_path, caplog):
    path = write(
        tmp_path / "a.csv", [(f"u{n}", f"i{n % 3}", n) for n in range(30)], header=("user_id", "item_id", "ts")
    )
    config = PrepareConfig(
        data=TextDataSettings(path=str(path)), tokenizer=TokenizerSettings(kind="items"), model=VocabularySettings(100)
    )
    with pytest.raises(UserError, match=r"data.user_column=user_id data.item_column=item_id data.time_column=ts"):
        prepare(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepare(replace(config, data=replace(config.data, text_column="item_id")), tmp_path / "out")
    assert "data.user_column=user_id" in caplog.text
    assert "every row is one item" in caplog.text
