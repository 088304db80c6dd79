"""YAML and JSON from anybody: plain values, or a reason in one line."""

import json
import os

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorem.config import parsing
from quorem.config.finetuning import FinetuneConfig
from quorem.config.loading import from_mapping, leaves, load, override
from quorem.config.parsing import parse_json, parse_yaml
from quorem.config.settings import PrepareConfig, PretrainConfig
from quorem.config.shape import NUMBER, check_shape
from quorem.errors import UserError
from quorem.plan.plan import Plan
from quorem.plan.recipes import resolve
from quorem.plan.sizes import describe

EXAMPLES = int(os.environ.get("QUOREM_FUZZ", "100"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))


def reason(attempt, error):
    """What an attempt is refused with; nothing if it is not."""
    try:
        attempt()
    except error as refused:
        return str(refused)
    return ""


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
REFUSED = {
    "bomb": BOMB,
    "itself": "&a [*a]",
    "inside itself": "a: &a {b: *a}",
    "many brackets": "[" * 5_000,
    "many braces": "{a: " * 5_000,
    "tag of int": "!!int x",
    "tag of float": "!!float x",
    "tag of bool": "!!bool x",
    "empty int": '!!int ""',
    "timestamp": "!!timestamp 2001-01-01",
    "binary": "!!binary x",
    "set": "!!set {a}",
    "code": "!!python/object/apply:os.system [true]",
    "digits": "1" * 5_000,
    "unhashable key": "? [a]\n: b",
    "null byte": "\0",
    "unknown alias": "*b",
    "merge": "<<: 1",
    "open": "'",
    "a key twice": "a: {b: 1, b: 2}",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_what_is_no_plain_value_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=r"\S") as raised:
        parse_yaml(text)
    assert "\n" not in str(raised.value)


def test_dates_and_lone_signs_are_text_and_aliases_may_be_used():
    assert parse_yaml("2024-01-01") == "2024-01-01"
    assert parse_yaml("delimiter: =") == {"delimiter": "="}
    assert parse_yaml("[1:30, 190:20:30.15, 0x1F, 0b11, 1_000, 017, -3, 1.5, .5, 1.0e+3, .inf]") == [
        "1:30", "190:20:30.15", 31, 3, 1000, 15, -3, 1.5, 0.5, 1000.0, float("inf"),
    ]  # fmt: skip
    assert parse_yaml("a: &x [1, 2]\nb: *x\nc: {<<: {d: 1}}") == {"a": [1, 2], "b": [1, 2], "c": {"d": 1}}
    assert parse_yaml("") is None


def test_as_many_values_as_are_allowed_are_read_and_no_more(monkeypatch):
    monkeypatch.setattr(parsing, "MOST_VALUES", 1_000)
    assert len(parse_yaml("[" + "1," * 999 + "]")) == 999
    with pytest.raises(ValueError, match="more than 1,000 values"):
        parse_yaml("[" + "1," * 1_000 + "]")


def test_json_that_never_ends_is_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 100_000)
    with pytest.raises(ValueError, match="Exceeds the limit"):
        parse_json("1" * 5_000)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(), inside, max_size=3),
    max_leaves=8,
)


@fuzzed
@given(values)
def test_what_is_dumped_is_read_again(value):
    assert parse_yaml(yaml.safe_dump(value)) == value
    assert parse_json(json.dumps(value)) == value


PIECES = (
    *("[", "]", "{", "}", ":", ", ", "&a ", "*a ", "!!int ", "!!float ", "!!set ", "- ", "? ", "| ", "> ", "'", '"'),
    *("\n", "  ", "#", "a", "1", ".inf", "1e9", "null", "<<: ", "%", "@", "\0", "\ufeff", "영", "=", "~", "0x", "---"),
)


@fuzzed
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join))
def test_any_text_is_a_value_or_a_reason(text):
    for parse in (parse_yaml, parse_json):
        assert "\n" not in reason(lambda parse=parse: parse(text), ValueError)


ODD = (
    *(
        "2024-01-01",
        "!!int x",
        "[" * 2_000,
        "1" + "0" * 400,
        "1" * 5_000,
        "-1",
        "0",
        "1e400",
        ".nan",
        "-.inf",
        "[1, 2]",
    ),
    *("{a: 1}", "null", "&a [*a]", "18446744073709551616", "9223372036854775807", "2147483647", "65536", "1000", "64"),
    *("1", "x", "true", "", "1x", "1e300x", "0B", "97,101", "2,2147483647", "20MB"),
)


def leaves_of(kind):
    return [name for name, _, _ in leaves(kind())]


assignments = st.lists(
    st.tuples(
        st.sampled_from([name for name in leaves_of(PretrainConfig) if name != "model.init_from"]),
        st.sampled_from(ODD) | st.integers().map(str) | st.floats().map(str) | st.text(max_size=5),
    ),
    min_size=1,
    max_size=3,
).map(lambda chosen: ["model.size=tiny", *(f"{name}={value}" for name, value in chosen)])


def check_short(said):
    assert "\n" not in said
    assert len(said) < 2_000


@pytest.mark.slow
@settings(fuzzed, max_examples=-(-EXAMPLES // 3))
@given(assignments)
def test_any_setting_is_taken_or_refused_in_one_short_line(words):
    check_short(reason(lambda: resolve(override(PretrainConfig(), words)), UserError))


@pytest.mark.slow
@settings(fuzzed, max_examples=-(-EXAMPLES // 10))
@given(assignments)
def test_what_any_settings_would_build_is_described_or_refused_in_one_short_line(words):
    check_short(reason(lambda: describe(Plan.as_asked(resolve(override(PretrainConfig(), words)))), UserError))


@fuzzed
@given(st.sampled_from([PretrainConfig, FinetuneConfig, PrepareConfig]), st.data())
def test_any_file_of_settings_is_read_or_refused(kind, data):
    name = data.draw(st.sampled_from(leaves_of(kind)))
    value = data.draw(values)
    for key in reversed(name.split(".")):
        value = {key: value}
    said = reason(lambda: from_mapping(kind, value, source="a.yaml"), UserError)
    assert not said or said.startswith("a.yaml: ")


@pytest.mark.parametrize(
    "key",
    ["tokenizer.path", "model.embedding.attributes_file", "model.embedding.assignment_file"],
)
def test_a_path_of_any_length_is_refused_in_a_short_line(key):
    kind = {
        "attributes_file": ["model.embedding.kind=attributes"],
        "assignment_file": ["model.embedding.assignment=file"],
    }
    words = [f"{key}={'[' * 5_000}", *kind.get(key.rpartition(".")[2], [])]
    check_short(reason(lambda: describe(Plan.as_asked(resolve(override(PretrainConfig(), words)))), UserError))


@pytest.mark.parametrize("value", ["0x" + "f" * 5_000, "0b" + "1" * 20_000, "9" * 4_000])
def test_a_number_of_any_length_is_refused_in_a_short_line(value):
    with pytest.raises(UserError, match=r"train.max_steps=a number of .* bits: a whole number up to"):
        override(PretrainConfig(), [f"train.max_steps={value}"])


def test_a_file_named_json_is_read_as_json(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"train": {"seed": 7}, "data": {"text_column": "\\ud83d\\ude00"}}', encoding="utf-8")
    found = load(PretrainConfig, path)
    assert (found.train.seed, found.data.text_column) == (7, "😀")
    path.write_text("train: {seed: 7}", encoding="utf-8")
    with pytest.raises(UserError, match=r"a.json: not valid JSON"):
        load(PretrainConfig, path)


SHAPE = {"size": NUMBER, "names": [str], "parts": {...: NUMBER}, "rows": [[int]]}


def test_a_value_of_its_shape_passes_and_keys_may_lack_or_be_more():
    check_shape({"size": 1.5, "names": ["a"], "parts": {"x": 1, "y": float("nan")}, "rows": [[1], []]}, SHAPE, "f")
    check_shape({"other": object()}, SHAPE, "f")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"f is \[\], not a mapping"),
        ({"size": "7"}, "f, size is '7', not a number"),
        ({"size": True}, "f, size is True, not a number"),
        ({"size": 10**400}, "f, size is a number of 1329 bits, not a number"),
        ({"names": "ab"}, "f, names is 'ab', not a list"),
        ({"names": ["a", 1]}, "f, names, 2 is 1, not a text"),
        ({"parts": {"x": None}}, "f, parts, x is None, not a number"),
        ({"rows": [[1], [1.5]]}, "f, rows, 2, 1 is 1.5, not a whole number"),
    ],
)
def test_another_shape_is_named_where_it_is(value, message):
    with pytest.raises(UserError, match=message + ": the file is damaged"):
        check_shape(value, SHAPE, "f")
