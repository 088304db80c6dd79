"""quorem prepare and merge, and pre-training on what they make."""

import json
import shutil

import pytest

from quorem.config.settings import PrepareConfig, TextDataSettings
from quorem.data import shards
from quorem.data.prepare import prepare
from quorem.data.shards import Shards
from quorem.samples import write_reviews
from quorem.tokenization import load_tokenizer

WORDS = ["--text-column", "review", "model.vocab_size=3000"]


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Two halves of a sample, and the whole."""
    folder = tmp_path_factory.mktemp("parts")
    write_reviews(folder / "whole.csv", rows=300)
    head, *rows = (folder / "whole.csv").read_text().splitlines(keepends=True)
    (folder / "a.csv").write_text("".join([head, *rows[:180]]))
    (folder / "b.csv").write_text("".join([head, *rows[180:]]))
    return folder


@pytest.fixture
def prepared(quorem, parts, tmp_path):
    outcome = quorem("prepare", parts / "whole.csv", *WORDS, "--out", tmp_path / "prepared")
    assert outcome.code == 0, outcome
    return tmp_path / "prepared"


def test_prepare_makes_a_tokenizer_and_shards_and_says_what_they_are(quorem, parts, prepared):
    shards, tokenizer = Shards(prepared / "shards"), load_tokenizer(prepared / "tokenizer")
    assert shards.meta.rows == {"read": 300, "used": 300, "skipped": 0, "bad": 0}
    assert len(tokenizer) == shards.meta.vocab_size
    again = quorem("prepare", parts / "whole.csv", *WORDS, "--out", prepared)
    assert again.code == 0
    assert f"300 documents, {shards.meta.num_tokens:,} tokens, vocabulary {len(tokenizer):,}, " in again.out


@pytest.mark.parametrize(
    ("change", "differs"),
    [
        (["tokenizer.lowercase=false"], "tokenizer"),
        (["model.vocab_size=2000"], "vocab_size"),
        (["--text-column", "sentiment"], "text_column"),
    ],
)
def test_prepare_refuses_a_folder_made_from_something_else_by_naming_it(refused, parts, prepared, change, differs):
    line = refused("prepare", parts / "whole.csv", *WORDS, *change, "--out", prepared)
    assert f"it differs in {differs})" in line
    assert "differs in data" in refused("prepare", parts / "a.csv", *WORDS, "--out", prepared)


def test_prepare_refuses_a_folder_of_other_things(refused, parts, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    line = refused("prepare", parts / "a.csv", *WORDS, "--out", tmp_path / "mine")
    assert "holds no prepared data" in line
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_pretraining_on_prepared_data_is_pretraining_on_the_data(quorem, parts, prepared, tmp_path, pretrain_settings):
    for name, data in (("raw", [parts / "whole.csv", "--text-column", "review"]), ("sharded", [prepared])):
        outcome = quorem("pretrain", *data, "--out", tmp_path / name, *pretrain_settings)
        assert outcome.code == 0, outcome

    def losses(name):
        return [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]

    assert losses("raw") == losses("sharded")
    assert not (tmp_path / "sharded" / "data" / "shards").exists()
    again = quorem("pretrain", tmp_path / "raw" / "data", "--out", tmp_path / "run", *pretrain_settings)  # a run's too
    assert again.code == 0
    assert losses("run") == losses("raw")


@pytest.mark.parametrize(
    "given", [["--tokenizer", "items"], ["--text-column", "review"], ["tokenizer.lowercase=false"]]
)
def test_settings_that_prepared_data_has_no_use_for_are_refused(refused, prepared, tmp_path, given):
    line = refused("pretrain", prepared, "--out", tmp_path / "run", *given)
    assert "is already prepared" in line
    assert not (tmp_path / "run").exists()


def test_pretraining_refuses_prepared_data_that_changed_or_is_damaged(
    quorem, refused, parts, prepared, tmp_path, pretrain_settings
):
    run = ["pretrain", prepared, "--out", tmp_path / "run", *pretrain_settings, "train.max_steps=2"]
    assert quorem(*run).code == 0
    shutil.rmtree(prepared)
    assert quorem("prepare", parts / "a.csv", *WORDS, "--out", prepared).code == 0
    assert "its input (data) has changed" in refused(*run)
    shutil.copytree(tmp_path / "run" / "discriminator", tmp_path / "other")
    shutil.rmtree(prepared / "tokenizer")
    shutil.copytree(tmp_path / "other", prepared / "tokenizer")
    (prepared / "tokenizer" / "config.json").unlink()
    line = refused("pretrain", prepared, "--out", tmp_path / "new", *pretrain_settings, after_log=True)
    assert "not made with the tokenizer beside them" in line


def test_a_tokenizer_is_not_trained_and_given_at_once(quorem, refused, parts, prepared, tmp_path):
    given = ["prepare", parts / "a.csv", "--text-column", "review", f"tokenizer.path={prepared / 'tokenizer'}"]
    line = refused(*given, "tokenizer.lowercase=false", "--out", tmp_path / "x")
    assert "tokenizer.lowercase=False is for training a tokenizer" in line
    assert "no tokenizer.json there" in refused(*given[:-1], f"tokenizer.path={parts}", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert quorem(*given, "--out", tmp_path / "x").code == 0
    assert quorem(*given, "--out", tmp_path / "x").code == 0
    assert quorem("prepare", parts / "b.csv", *WORDS, "--out", tmp_path / "other").code == 0
    other = [*given[:-1], f"tokenizer.path={tmp_path / 'other' / 'tokenizer'}"]
    assert "it differs in tokenizer)" in refused(*other, "--out", tmp_path / "x")


def test_merged_parts_are_the_whole(quorem, refused, parts, prepared, tmp_path):
    for name in ("a", "b"):
        words = ["--text-column", "review", f"tokenizer.path={prepared / 'tokenizer'}"]
        assert quorem("prepare", parts / f"{name}.csv", *words, "--out", tmp_path / name).code == 0
    outcome = quorem("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all")
    assert outcome.code == 0, outcome
    merged, whole = Shards(tmp_path / "all" / "shards"), Shards(prepared / "shards")
    for name in ("tokens.bin", "ends.bin", "counts.bin"):
        assert (merged.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    assert merged.meta.rows == whole.meta.rows
    assert "exists already" in refused("merge", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "all")
    assert quorem("prepare", parts / "b.csv", *WORDS, "--out", tmp_path / "c").code == 0
    line = refused("merge", tmp_path / "a", tmp_path / "c", "--out", tmp_path / "no")
    assert "another tokenizer" in line
    assert not (tmp_path / "no").exists()


def test_the_list_of_bad_rows_survives_a_kill_at_the_end(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("text\na film\ntwo,fields\nanother film\n")
    finish_folder = shards.finish_folder

    def killed(*folders):
        finish_folder(*folders)
        raise KeyboardInterrupt

    config = PrepareConfig(data=TextDataSettings(path=str(tmp_path / "a.csv"), bad_rows="skip"))
    with monkeypatch.context() as patch:
        patch.setattr(shards, "finish_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, tmp_path / "out")
    assert prepare(config, tmp_path / "out").rows == {"read": 3, "used": 2, "skipped": 1, "bad": 1}
    assert "row 2 (line 3): found 2 fields" in (tmp_path / "out" / "bad_rows.txt").read_text()


def test_another_reading_of_the_same_files_is_not_taken_for_this_one(quorem, refused, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "texts").mkdir(exist_ok=True)
        (tmp_path / "texts" / f"{name}.txt").write_text("one\ntwo\nthree\n")
    words = ["prepare", tmp_path / "texts", "--out", tmp_path / "out", "model.vocab_size=50"]
    assert "2 documents" in quorem(*words).out
    assert "differs in format" in refused(*words, "data.format=text")


def test_two_folders_of_texts_are_read_as_one_is(quorem, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / ".checkpoints").mkdir(parents=True)
        (tmp_path / name / "x.txt").write_text("one\ntwo\nthree\n")
        (tmp_path / name / ".checkpoints" / "x-copy.txt").write_text("hidden\n")
    outcome = quorem("prepare", tmp_path / "a", tmp_path / "b", "--out", tmp_path / "out", "model.vocab_size=50")
    assert "2 documents" in outcome.out
    assert "2 rows read" in outcome.err
