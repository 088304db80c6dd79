"""Every command says how much of a text its vocabulary does not know, and stops where that is most of it."""

import csv
import random

import pytest
import yaml


@pytest.fixture
def rare_words(tmp_path):
    """Four hundred rows, most characters of which are in words that occur once."""
    rng = random.Random(0)
    path = tmp_path / "rare.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(400):
            word = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=24))
            writer.writerow([f"the film {word}", "good" if number % 2 else "bad"])
    return path


SHARES = "33.33 % of tokens and 77.42 % of characters unknown, more than data.max_unknown=0.5 allows"
SMALL = "model.vocab_size=7"


def test_prepare_stops_and_keeps_its_shards_for_the_same_command_that_allows_it(quorem, rare_words, tmp_path):
    out = tmp_path / "prepared"
    outcome = quorem("prepare", rare_words, "--out", out, SMALL)
    assert (outcome.code, outcome.out) == (2, "")
    assert f"{out}: {SHARES}: choose another --tokenizer or a larger model.vocab_size" in outcome.err
    made = (out / "shards" / "tokens.bin").stat().st_mtime_ns
    outcome = quorem("prepare", rare_words, "--out", out, SMALL, "data.max_unknown=1")
    assert "33.33 % of tokens and 77.42 % of characters unknown" in outcome.out
    assert (out / "shards" / "tokens.bin").stat().st_mtime_ns == made


def test_pretrain_stops_before_it_trains_and_goes_on_if_it_is_told_to(quorem, rare_words, tmp_path, pretrain_settings):
    settings = [setting for setting in pretrain_settings if not setting.startswith("model.vocab_size")]
    out = tmp_path / "run"
    outcome = quorem("pretrain", rare_words, "--out", out, *settings, SMALL)
    assert outcome.code == 2
    assert SHARES in outcome.err
    assert not list(out.rglob("step_*"))
    outcome = quorem("pretrain", rare_words, "--out", out, *settings, SMALL, "data.max_unknown=1")
    assert outcome.code == 0
    assert "tokens (33.33 % of tokens and 77.42 % of characters unknown)" in outcome.err
    assert yaml.safe_load((out / "config.yaml").read_text())["data"]["max_unknown"] == 1.0


def test_pretrain_on_what_is_prepared_says_the_same(quorem, rare_words, tmp_path, pretrain_settings):
    settings = [setting for setting in pretrain_settings if not setting.startswith("model.vocab_size")]
    quorem("prepare", rare_words, "--out", tmp_path / "prepared", SMALL)
    outcome = quorem("pretrain", tmp_path / "prepared", "--out", tmp_path / "run", *settings)
    assert outcome.code == 2
    assert SHARES in outcome.err


def test_finetune_and_predict_warn(quorem, rare_words, pretrained, classifier, tmp_path):
    question = "is this the column, and the kind of text, that the model was pre-trained on?"
    for words in (
        ["finetune", pretrained, rare_words, "--out", tmp_path / "run", "train.max_steps=1"],
        ["predict", classifier, rare_words, "--text-column", "text", "--out", tmp_path / "found.csv"],
    ):
        outcome = quorem(*words)
        assert outcome.code == 0
        assert f"% of characters unknown to the model; {question}" in outcome.err


@pytest.mark.parametrize("value", ["0", "1.5", "-1", "nan"])
def test_the_share_is_between_nothing_and_all(quorem, rare_words, tmp_path, value):
    for words in (["prepare", rare_words], ["pretrain", rare_words]):
        outcome = quorem(*words, "--out", tmp_path / "x", f"data.max_unknown={value}")
        assert outcome.code == 2
        assert f"data.max_unknown={float(value)}: a number above 0 and at most 1 needed" in outcome.err
