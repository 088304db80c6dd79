"""Folders with files that somebody or something has changed: one line and exit code 2, no traceback, no hang."""

import copy
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quorem.cli import main

EXAMPLES = int(os.environ.get("QUOREM_FUZZ", "3"))
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

ODD = (None, "x", "", -1, 0, 1, 10**12, 2**63, 10**400, 1.5, [], {}, [1], {"a": 1}, True, "9" * 3_000, float("nan"))


def places(value, above=()):
    """The places in a JSON value: tuples of keys and numbers."""
    yield above
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in list(inside)[:20]:
        yield from places(each, (*above, key))


def changed(value, place, new):
    """The value with something else in a place."""
    if not place:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = new
    return value


def refused_or_done(capfd, *words):
    """Run a command that may fail, in one line."""
    capfd.readouterr()
    code = main([str(word) for word in words])
    err = capfd.readouterr().err
    assert code in (0, 2), err
    assert "Traceback" not in err
    if code == 2:
        said = [line for line in err.splitlines() if line.startswith("quorem: ")]
        assert len(said) == 1
        assert len(said[0]) < 3_000


COMMANDS = {
    "model": ("classifier", ["model/config.json", "model/tokenizer.json", "model/tokenizer_config.json"]),
    "encoder": ("pretrained", ["discriminator/config.json", "discriminator/tokenizer_config.json"]),
    "shards": ("pretrained", ["data/shards/meta.json", "data/tokenizer/tokenizer.json"]),
    "report of pre-training": ("pretrained", ["result.json", "environment.json", "metrics.jsonl"]),
    "report of fine-tuning": ("classifier", ["result.json", "environment.json", "metrics.jsonl"]),
}


SLOW = "report of pre-training"  # it draws for two seconds


def lines_of(path):
    """The values in a file: one of JSON, or one a line of .jsonl."""
    text = path.read_text(encoding="utf-8")
    return [json.loads(each) for each in (text.splitlines() if path.suffix == ".jsonl" else [text])]


def used_or_refused(capfd, run, what, sample_csv, pretrain_settings):
    """Call the command that reads the folder `run`; it may fail, in one line."""
    labels = ["--text-column", "review", "--label-column", "sentiment"]
    unprepared = [each for each in pretrain_settings if not each.startswith("model.vocab_size")]
    words = {
        "model": ["predict", run, sample_csv, "--out", run.parent / "found.csv"],
        "encoder": ["finetune", run, sample_csv, *labels, "--out", run.parent / "out", "train.max_steps=1"],
        "shards": ["pretrain", run / "data", "--out", run.parent / "out", *unprepared, "train.max_steps=1"],
    }.get(what, ["report", run, "--out", run.parent / "report.html"])
    refused_or_done(capfd, *words)


@pytest.mark.parametrize(("what", "name"), [(what, name) for what, (_, names) in COMMANDS.items() for name in names])
def test_any_value_anywhere_is_used_or_refused(
    request, tmp_path_factory, capfd, sample_csv, pretrain_settings, what, name
):
    whole = request.getfixturevalue(COMMANDS[what][0])
    values = lines_of(whole / name)
    value = values if name.endswith("jsonl") else values[0]

    @settings(fuzzed, max_examples=max(2, EXAMPLES // 2) if what == SLOW else EXAMPLES)
    @given(st.sampled_from(list(places(value))), st.sampled_from(ODD))
    def attack(place, new):
        folder = tmp_path_factory.mktemp("damaged")
        run = shutil.copytree(whole, folder / "run")
        found = changed(value, place, new)
        lines = found if name.endswith("jsonl") and isinstance(found, list) else [found]
        (run / name).write_text("\n".join(json.dumps(line) for line in lines) + "\n", encoding="utf-8")
        used_or_refused(capfd, run, what, sample_csv, pretrain_settings)
        shutil.rmtree(folder)

    attack()


@pytest.mark.parametrize(
    ("what", "name", "place", "new"),
    [
        ("model", "model/config.json", (0, "architectures"), 1),
        ("report of pre-training", "metrics.jsonl", (-1, "rtd_auc"), "x"),
        ("report of pre-training", "metrics.jsonl", (-1, "step"), 0),
    ],
)
def test_values_that_once_gave_a_traceback_do_not(
    request, tmp_path, capfd, sample_csv, pretrain_settings, what, name, place, new
):
    run = shutil.copytree(request.getfixturevalue(COMMANDS[what][0]), tmp_path / "run")
    lines = changed(lines_of(run / name), place, new)
    (run / name).write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    used_or_refused(capfd, run, what, sample_csv, pretrain_settings)


def test_sizes_are_bounded_before_anything_is_built(refused, tmp_path, classifier, sample_csv):
    run = shutil.copytree(classifier, tmp_path / "run")
    config = json.loads((run / "model" / "config.json").read_text())
    for key, value in (("num_hidden_layers", 10**9), ("hidden_size", 10**12), ("vocab_size", 2**40)):
        (run / "model" / "config.json").write_text(json.dumps(config | {key: value}))
        said = refused("predict", run, sample_csv, "--out", tmp_path / "found.csv")
        assert f"{key}={value}: a number from 1 to" in said
    (run / "model" / "config.json").write_text(json.dumps(config | {"classifier_dropout": float("nan")}))
    said = refused("predict", run, sample_csv, "--out", tmp_path / "found.csv")
    assert "classifier_dropout=nan: a number from 0 to below 1 needed" in said


@pytest.mark.parametrize("labels", [{"0": "a", "1": "a"}, {"0": ["a"], "1": "b"}, {"0": "a", "7": "b"}])
def test_classes_without_names_of_their_own_are_refused(refused, tmp_path, classifier, sample_csv, labels):
    run = shutil.copytree(classifier, tmp_path / "run")
    config = json.loads((run / "model" / "config.json").read_text())
    (run / "model" / "config.json").write_text(json.dumps(config | {"id2label": labels}))
    said = refused("predict", run, sample_csv, "--out", tmp_path / "found.csv")
    assert f"{run / 'model'}: config.json: id2label=" in said
    assert "a name of its own for each of 2 classes needed" in said
    assert not (tmp_path / "found.csv").exists()


def test_a_choice_that_is_not_known_names_the_folder(refused, tmp_path, classifier, sample_csv):
    run = shutil.copytree(classifier, tmp_path / "run")
    config = json.loads((run / "model" / "config.json").read_text())
    (run / "model" / "config.json").write_text(json.dumps(config | {"classifier_head": "zz"}))
    said = refused("predict", run, sample_csv, "--out", tmp_path / "x")
    assert f"{run / 'model'}: unknown classifier_head 'zz'" in said


def test_a_pattern_that_never_ends_is_named(refused, tmp_path, pretrained):
    folder = shutil.copytree(pretrained / "data" / "tokenizer", tmp_path / "tokenizer")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": "(a+)+$"},
        "behavior": "Isolated",
        "invert": False,
    }
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "a.txt").write_text("a" * 60 + "b\n")
    said = refused("prepare", tmp_path / "a.txt", "--out", tmp_path / "out", f"tokenizer.path={folder}")
    assert "the tokenizer cannot split a text" in said
    assert not (tmp_path / "out" / "shards").exists()


def test_names_that_are_no_text_are_refused(refused, tmp_path):
    said = refused("prepare", str(tmp_path / "a\udcff.csv"), "--out", tmp_path / "out")
    assert "is not valid UTF-8 where the question marks are: rename it" in said


def test_a_thousand_classes_and_any_label_are_read_again_at_once(quorem, tmp_path, classifier):
    """YAML refuses some labels, and takes long."""
    run = shutil.copytree(classifier, tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["labels"] = ["😀\x7f", *(f"class {number}" for number in range(999))]
    del result["confusion"]
    result["confusions"] = [[0, number, 1] for number in range(1, 21)]
    (run / "result.json").write_text(json.dumps(result))
    assert quorem("report", run, "--out", tmp_path / "report.html").code == 0
    assert "😀" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_special_token_that_the_vocabulary_lacks_is_named(refused, tmp_path, pretrained, sample_csv):
    run = shutil.copytree(pretrained, tmp_path / "run")
    settings = run / "discriminator" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"unk_token": ""}))
    said = refused("finetune", run, sample_csv, "--text-column", "review", "--label-column", "sentiment",
                   "--out", tmp_path / "out")  # fmt: skip
    assert "has no token '', although tokenizer_config.json names it as unk_token" in said
