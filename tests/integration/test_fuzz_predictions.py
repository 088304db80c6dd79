"""quorem predict on small files: every row with all its values, or one clear line. QUOREM_FUZZ=10000 tries so many."""

import csv
import io
import json
import os
import re

import pytest
from any_files import anything, bad_rows, encodings, fuzzed, json_lines, quotings, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from quorem.cli import main
from quorem.data.writers import WRITERS
from quorem.tasks.predict import load_predictor_of

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

fuzzed = settings(fuzzed, max_examples=int(os.environ.get("QUOREM_FUZZ", "40")))  # each is a whole command
SAID = re.compile(r".*: (\d+) rows, (\d+) predicted, (\d+) left blank \(empty text\)(?:, (\d+) bad and left out)?\n")
ADDED = ["prediction", "probability"]
endings = st.sampled_from(
    [ending for writer in WRITERS.values() if writer.writes(words=False, answers=False) for ending in writer.endings]
)
characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
strings = st.text(characters, max_size=6) | st.sampled_from(
    ["a film", '"', "\\", ",", "\t", "\n", "x\r\ny", " ", "", "映画"]
)
names = st.lists(st.text(characters.filter(str.isalnum), min_size=1, max_size=4), max_size=3, unique=True).map(
    lambda found: [name for name in found if name not in ("text", "file", *ADDED)]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | strings,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(strings, inner, max_size=3),
    max_leaves=5,
)


@pytest.fixture(scope="module", autouse=True)
def loaded_once(classifier):
    """The classifier, which would else be loaded for every file."""
    found = load_predictor_of(classifier)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("quorem.tasks.predict.load_predictor_of", lambda folder: found)
        yield


@pytest.fixture
def predicted(tmp_path_factory, capfd):
    """Predict files by content, to a file of some ending: what came out, the counts, and the last line of the log."""

    def run(contents, ending, *options):
        folder = tmp_path_factory.mktemp("any")
        (folder / "run").mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        out = folder / "out" / f"found{ending}"
        capfd.readouterr()
        code = main(
            ["predict", str(folder / "run"), *[str(folder / name) for name in contents], "--out", str(out), *options]
        )
        said, log = capfd.readouterr()
        assert "Traceback" not in log
        assert code in (0, 2)
        assert out.exists() == (code == 0)
        if code == 2:
            line = log.splitlines()[-1]
            assert line.startswith("quorem: ")
            assert any(name in line for name in contents) or "has no meaning" in line
            assert not said
            assert not out.parent.exists() or list(out.parent.iterdir()) == []
            return None, None
        read, known, empty, bad = (int(number or 0) for number in SAID.fullmatch(said).groups())
        assert read == known + empty + bad
        assert (out.parent / "found.bad_rows.txt").exists() == bool(bad)
        found = rows_of(out)
        assert len(found) == read - bad
        for row in found:
            label, probability = row[-2:]
            assert (label in (None, "")) == (probability in (None, ""))
        assert sum(row[-2] not in (None, "") for row in found) == known
        return found, out

    return run


def whole(digits):
    """A whole number; as it is written where it has more digits than Python reads."""
    return int(digits) if len(digits) <= 4_000 else digits


def rows_of(path):
    """The values of all rows; of CSV without its header."""
    if path.suffix == ".parquet":
        return [list(row.values()) for row in parquet.read_table(path).to_pylist()]
    text = path.read_bytes().decode()
    if path.suffix in (".jsonl", ".ndjson"):
        return [list(json.loads(line, strict=False, parse_int=whole).values()) for line in text.split("\n")[:-1]]
    return list(
        csv.reader(io.StringIO(text, newline=""), delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
    )[1:]


def names_of(path):
    if path.suffix == ".parquet":
        return parquet.read_schema(path).names
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


# ---- what must come back


@fuzzed
@given(
    data=st.data(),
    more=names,
    quoting=st.sampled_from(["standard", "backslash"]),
    number=st.integers(1, 3),
    ending=endings,
)
def test_a_csv_comes_back(predicted, data, more, quoting, number, ending):
    header = data.draw(st.permutations(["text", *more]))
    rows = st.lists(st.lists(strings, min_size=len(header), max_size=len(header)), min_size=1, max_size=4)
    if quoting == "backslash":
        rows = rows.map(lambda rows: [[cell.replace("\\", "/") for cell in row] for row in rows])
    escaped = {"doublequote": False, "escapechar": "\\"} if quoting == "backslash" else {}
    contents, expected = {}, []
    for name in range(number):
        buffer, some = io.StringIO(newline=""), data.draw(rows)
        csv.writer(buffer, quoting=csv.QUOTE_ALL, **escaped).writerows([header, *some])
        contents[f"{name}.csv"] = buffer.getvalue().encode()
        expected += [row for row in some if row != header or len(header) == 1]
    found, out = predicted(contents, ending, "--quoting", quoting)
    first = 1 if number > 1 else 0
    assert [row[first:-2] for row in found] == expected
    for row in found:
        assert (row[-2] not in (None, "")) == bool(row[first + header.index("text")].strip())
    if ending not in (".jsonl", ".ndjson"):
        assert names_of(out) == [*["file"][:first], *header, *ADDED]


TAKEN = (*ADDED, "file", "review")  # the last is the run's text column, which comes before "text"
keys = strings.filter(lambda name: name not in TAKEN)
objects = st.builds(
    lambda text, more: more | {"text": text}, strings | st.none(), st.dictionaries(keys, values, max_size=3)
)


@fuzzed
@given(rows=st.lists(objects, min_size=1, max_size=4), ascii_only=st.booleans(), ending=endings)
def test_json_lines_come_back(predicted, rows, ascii_only, ending):
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    found, out = predicted({"a.jsonl": "\n".join(lines).encode()}, ending)
    if ending in (".jsonl", ".ndjson"):
        written = out.read_text(encoding="utf-8").split("\n")[:-1]
        assert [line.startswith(before[:-1] + ', "prediction": ') for line, before in zip(written, lines, strict=True)]
        assert [row[:-2] for row in found] == [list(row.values()) for row in rows]
        return
    header = names_of(out)
    assert header == [*dict.fromkeys(name for row in rows for name in row), *ADDED]
    for row, values in zip(rows, found, strict=True):
        for name, value in zip(header[:-2], values, strict=False):
            expected = row.get(name)
            if isinstance(value, str) and not isinstance(expected, str):  # as text, or empty in a CSV
                value = json.loads(value) if value else None
            assert value == expected


@fuzzed
@given(
    rows=st.lists(
        st.tuples(strings | st.none(), st.none() | st.integers(-9, 9), st.lists(st.none() | strings, max_size=2)),
        min_size=1,
        max_size=5,
    ),
    ending=endings,
)
def test_parquet_comes_back(predicted, rows, ending):
    columns = dict(zip(("text", "n", "list"), map(list, zip(*rows, strict=True)), strict=True))
    kinds = {"text": pyarrow.string(), "n": pyarrow.int8(), "list": pyarrow.list_(pyarrow.string())}
    table = pyarrow.table(columns, pyarrow.schema(list(kinds.items())))
    sink = io.BytesIO()
    parquet.write_table(table, sink, row_group_size=2)
    found, out = predicted({"a.parquet": sink.getvalue()}, ending)
    if ending == ".parquet":
        assert parquet.read_table(out).select(list(columns)).equals(table)
    elif ending in (".jsonl", ".ndjson"):
        assert [tuple(row[:-2]) for row in found] == rows
    else:
        assert [(text, n, json.loads(inside)) for text, n, inside, *_ in found] == [
            (text or "", "" if n is None else str(n), inside) for text, n, inside in rows
        ]


@fuzzed
@given(lines=st.lists(strings.map(lambda text: re.sub(r"[\r\n]", "", text)), min_size=1, max_size=5), ending=endings)
def test_lines_of_text_come_back(predicted, lines, ending):
    found, _ = predicted({"a.txt": "".join(line + "\n" for line in lines).encode()}, ending)
    assert [(int(row[0]), row[1]) for row in found] == list(enumerate(lines, start=1))
    assert [row[2] not in (None, "") for row in found] == [bool(line.strip()) for line in lines]


# ---- what may be refused


@fuzzed
@given(
    content=tables() | json_lines() | anything,
    name=st.sampled_from(["a.csv", "a.tsv", "a.jsonl", "a.txt", "a.parquet", "a.mid", "a.csv.gz", "a"]),
    choice=bad_rows,
    options=st.fixed_dictionaries(
        {},
        optional={
            "--encoding": encodings.filter(bool),
            "--quoting": quotings,
            "--format": st.sampled_from(["auto", "csv", "jsonl", "text", "folder", "parquet"]),
        },
    ),
    ending=endings,
)
def test_any_file_is_predicted_or_refused_in_one_line(predicted, content, name, choice, options, ending):
    words = [word for option in options.items() for word in option]
    predicted({name: content}, ending, "--bad-rows", choice, *words)


@fuzzed
@given(contents=st.lists(json_lines(), min_size=2, max_size=3), ending=endings)
def test_any_files_of_json_lines(predicted, contents, ending):
    predicted({f"{number}.jsonl": content for number, content in enumerate(contents)}, ending, "--bad-rows", "skip")
