"""Files of events: every shape and format, times in every unit, and rows that cannot be read."""

import gzip
import json
import logging
from datetime import UTC, datetime, timedelta, timezone

import pytest
from event_cases import log_of, read, write

from quorem.config.settings import TextDataSettings
from quorem.data.events.shapes import SHAPES
from quorem.data.events.source import EventSource, source_of
from quorem.errors import UserError

pytestmark = pytest.mark.slow
pytest.importorskip("duckdb", reason="logs of events need duckdb: pip install 'quorem[events]'")


SHAPED = {
    "recbole": ("a.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\ty\t1\t9.0\nu\tx\t1\t3.5\n"),
    "gru4rec": ("a.txt", "SessionId\tItemId\tTime\nu\ty\t1396861000.5\nu\tx\t1396860999\n"),
    "sasrec": ("a.txt", "u x\nu y\n"),
    "movielens": ("ratings.dat", "u::y::5::978302109\nu::x::3::978301968\n"),
    "yoochoose": ("clicks.dat", "u,2014-04-07T10:54:09.868Z,y,0\nu,2014-04-07T10:51:09.277Z,x,0\n"),
    "auto": ("a.csv", "Event_Time,visitorId,kind,ProductID\n2,u,view,y\n1,u,view,x\n"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_by_its_name(tmp_path, name):
    file, text = SHAPED[name]
    (tmp_path / file).write_text(text)
    source = source_of(TextDataSettings(path=str(tmp_path / file), events=name), text_column=None)
    assert read(source)[0] == [["x", "y"]]


def test_other_forms_of_movielens_and_a_log_known_by_its_ending(tmp_path):
    for file, text in (
        ("u.data", "u\ty\t5\t9\nu\tx\t5\t3\n"),
        ("a.csv", "userId,movieId,rating,timestamp\nu,y,1,9\nu,x,1,3\n"),
    ):
        (tmp_path / file).write_text(text)
        source = source_of(TextDataSettings(path=str(tmp_path / file), events="movielens"), text_column=None)
        assert read(source)[0] == [["x", "y"]]
    (tmp_path / "a.inter").write_text(SHAPED["recbole"][1])
    source = source_of(TextDataSettings(path=str(tmp_path / "a.inter")), text_column=None)
    assert isinstance(source, EventSource)
    assert read(source)[0] == [["x", "y"]]
    with pytest.raises(UserError, match=r"data.item_column=sku: no such column in .*a.inter"):
        log_of(tmp_path / "a.inter", item_column="sku", user_column=None, time_column=None).documents()


ROWS = [("b", "y", 2_000_000_000), ("a", "x", 2_000_000_000), ("b", "x", 1_999_999_998)]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "csv.zst", "tsv", "semicolon.csv", "jsonl", "parquet", "jsonl.gz"])
def test_every_format(tmp_path, kind):
    path = tmp_path / f"it's [log] *.{kind}"  # a name with what SQL and patterns would mind
    delimiter = {"tsv": "\t", "semicolon.csv": ";"}.get(kind, ",")
    text = "".join(delimiter.join(map(str, row)) + "\r\n" for row in (("user", "item", "time"), *ROWS))
    if "jsonl" in kind:
        text = "".join(json.dumps({"item": item, "user": user, "time": time}) + "\n" for user, item, time in ROWS)
    if kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = dict(zip(("user", "item", "time"), map(list, zip(*ROWS, strict=True)), strict=True))
        pq.write_table(pa.table(columns), path)
    elif kind.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif kind.endswith(".zst"):
        zstd = pytest.importorskip("backports.zstd")
        path.write_bytes(zstd.compress(text.encode()))
    else:
        path.write_text(text, newline="")
    found, counts = read(log_of(path))
    assert found == [["x", "y"], ["x"]]
    assert (counts.read, counts.used) == (3, 3)
    if kind.endswith((".gz", ".zst")):
        path.write_bytes(path.read_bytes()[:-5])
        with pytest.raises(UserError, match="log"):
            read(log_of(path))


def test_a_typed_table_is_read_as_text(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    moments = [datetime(2024, 1, 1, 12, tzinfo=UTC) - timedelta(hours=n) for n in range(3)]
    pq.write_table(
        pa.table({"user": [7.0, 7.0, None], "item": [1.0, 2.0, 3.0], "time": moments, "many": [[1]] * 3}), path
    )
    found, counts = read(log_of(path))
    assert found == [["2", "1"]]
    assert (counts.read, counts.used, counts.skipped) == (3, 2, 1)
    with pytest.raises(UserError, match=r"column 'many' is .*\[\], where a row has one event"):
        log_of(path, item_column="many").documents()


def test_ids_that_a_spreadsheet_made_numbers(tmp_path, caplog):
    path = write(
        tmp_path / "a.csv", [("7.0", "0012", 1), ("7", "12.0", 2), ("7", "1.5", 3), ("7", "v2.0", 4), ("7.00", "x", 5)]
    )
    with caplog.at_level(logging.INFO):
        found, _ = read(log_of(path))
    assert found == [["0012", "12", "1.5", "v2.0"], ["x"]]
    assert "1 users such as 7.0 are read without the .0" in caplog.text
    assert "1 items such as 12.0 are read without the .0" in caplog.text


MOMENT = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)
UNITS = {
    "seconds": lambda moment: int(moment.timestamp()),
    "floats": lambda moment: f"{moment.timestamp():.1f}",
    "exponents": lambda moment: f"{moment.timestamp():.9e}",
    "milliseconds": lambda moment: int(moment.timestamp() * 1_000),
    "microseconds": lambda moment: int(moment.timestamp() * 1_000_000),
    "nanoseconds": lambda moment: int(moment.timestamp()) * 10**9,
    "iso": lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S"),
    "zulu": lambda moment: moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
    "zones": lambda moment: moment.astimezone(timezone(timedelta(hours=moment.minute % 5))).isoformat(),
}


@pytest.mark.parametrize("unit", UNITS)
def test_times_in_every_unit_have_the_same_pauses(tmp_path, unit):
    """29 and 31 minutes: with a gap of 30 the second one cuts."""
    moments = [MOMENT, MOMENT + timedelta(minutes=29), MOMENT + timedelta(minutes=60)]
    rows = [("u", f"i{number}", UNITS[unit](moment)) for number, moment in enumerate(moments)]
    source = log_of(write(tmp_path / "a.csv", rows[::-1]), session_gap="30min")
    assert read(source)[0] == [["i0", "i1"], ["i2"]]
    assert [sequence.begins for sequence in source.sequences()] == [
        round(moment.timestamp()) * 1_000_000 for moment in (moments[0], moments[2])
    ]


BAD = {
    "a mix": (
        [("u", "x", 1_700_000_000), ("u", "y", 1_700_000_001), ("u", "z", "2024-01-01")],
        3,
        "its time is in ISO 8601",
    ),
    "no time": ([("u", "x", 1), ("u", "y", "yesterday")], 2, "data.time_column=time is 'yesterday'"),
    "no date": ([("u", "x", "2024-02-29"), ("u", "y", "2024-02-30")], 2, "is '2024-02-30'"),
    "infinity": ([("u", "x", 1), ("u", "y", "inf")], 2, "is 'inf'"),
    "too large": ([("u", "x", 1), ("u", "y", "1e400")], 2, "is '1e400'"),
    "a missing time": ([("u", "x", 1), ("u", "y", "")], 2, "is empty"),
    "a tab": ([("u", "x", 1), ("u", "a\tb", 2)], 2, "has a tab, a line break"),
    "a line break": ([("u", "x", 1), ("u", "a\nb", 2)], 2, "has a tab, a line break"),
    "the separator of parts": ([("u", "x", 1), ("a\x1fb", "y", 2)], 2, "control character"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_rows_are_named_or_left_out(tmp_path, name):
    rows, row, words = BAD[name]
    path = write(tmp_path / "a.csv", rows)
    with pytest.raises(UserError) as caught:
        read(log_of(path))
    assert str(caught.value).startswith(f"{path}, row {row}: ")
    assert words in str(caught.value)
    found, counts = read(log_of(path, bad_rows="skip"))
    assert found == [[item for number, (_, item, _) in enumerate(rows, start=1) if number != row]]
    assert (counts.read, counts.used, counts.bad, len(counts.messages)) == (len(rows), len(rows) - 1, 1, 1)


def test_rows_of_another_width_are_named_or_left_out(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("user,item,time\nu,x,1\nu,y\nu,z,3,4\n\nu,w,then\nu,v,2\n")
    with pytest.raises(UserError) as caught:
        read(log_of(path))
    assert str(caught.value) == f"{path}, line 3: 2 columns, 3 expected"
    found, counts = read(log_of(path, bad_rows="skip"))
    assert found == [["x", "v"]]
    assert (counts.read - counts.bad, counts.used, counts.bad) == (counts.used + counts.skipped - counts.bad, 2, 3)
    assert [message.split(": ")[0].rpartition(", ")[2] for message in counts.messages] == ["line 3", "line 4", "row 4"]
    path.write_text('user,item,time\nu,x,1\nu,"y,2\nu,z,3\n')
    for bad_rows in ("error", "skip"):
        with pytest.raises(UserError, match=r"a.csv, line 3: .*quote"):
            read(log_of(path, bad_rows=bad_rows))
    assert read(log_of(path, quoting="none"))[0] == [["x", '"y', "z"]]


def test_objects_that_are_none(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = ['{"user": "u", "item": 5, "time": 1}', "", "{broken", "[1]", '{"user": "u", "item": ["a"], "time": 2}']
    path.write_text(
        "\n".join([*lines, '{"user": "u", "item": null, "time": 2}', '{"time": 3, "item": 6.0, "user": "u"}'])
    )
    with pytest.raises(UserError, match=r"a.jsonl, row 3: is no JSON object"):
        read(log_of(path))
    found, counts = read(log_of(path, bad_rows="skip"))
    assert found == [["5", "6"]]
    assert (counts.read, counts.used, counts.bad, counts.skipped) == (7, 2, 3, 5)


def test_a_header_that_repeats_is_no_event(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfuser,item,time\nu,x,1\nuser,item,time\nu,y,2\n")
    assert read(log_of(path))[0] == [["x", "y"]]
