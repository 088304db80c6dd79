"""Sessions of items: `quorem sample items`, `quorem pretrain items.txt --tokenizer items`, and what can go wrong."""

import csv
import gzip
import json

import pytest
from transformers import AutoModel, AutoTokenizer

from quorem.config.loading import load
from quorem.config.settings import PretrainConfig
from quorem.data.shards import Shards
from quorem.samples import entropies
from quorem.tokenization import encode
from quorem.training.metrics import entropy


@pytest.fixture
def items(quorem, tmp_path):
    path = tmp_path / "items.txt"
    assert quorem("sample", "items", "--vocab-size", 2000, "--rows", 300, "--out", path).code == 0
    return path


def test_sample_says_what_can_be_learned(quorem, tmp_path):
    path = tmp_path / "new" / "items.txt"
    outcome = quorem("sample", "items", "--vocab-size", "5000", "--rows", "7", "--seed", "3", "--out", path)
    assert outcome.code == 0
    known = entropies(5000)
    assert "7 synthetic sessions of items from a catalogue of 5,000" in outcome.out
    assert f"{known.item:.3f} nats by frequency alone" in outcome.out
    assert f"{known.item_given_cluster:.3f} given its session's cluster" in outcome.out
    assert len(path.read_text().splitlines()) == 7
    assert "100,000" in quorem("sample", "items", "--rows", "1", "--out", tmp_path / "default.txt").out


def test_sessions_are_pretrained_on_item_by_item(quorem, tmp_path, items, pretrain_settings):
    words = ["pretrain", items, "--tokenizer", "items", "--out", tmp_path / "run", *pretrain_settings]
    outcome = quorem(*words)
    assert outcome.code == 0
    assert "300 rows read, 300 used" in outcome.err
    stored = load(PretrainConfig, tmp_path / "run" / "config.yaml")
    assert (stored.data.format, stored.data.text_column, stored.tokenizer.kind) == ("text", None, "items")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "discriminator")
    texts = items.read_text().splitlines()
    shards = Shards(tmp_path / "run" / "data" / "shards")
    assert shards.meta.num_tokens == sum(len(text.split()) + 1 for text in texts)
    assert tokenizer.decode(shards.tokens[: shards.ends[0] - 1].tolist()) == texts[0]
    assert [tokenizer.decode(ids) for ids in encode(tokenizer, texts)] == texts
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["unigram_entropy"] == pytest.approx(entropy(shards.counts))
    assert result["vocab_size"] == 5 + len({item for text in texts for item in text.split()})
    model = AutoModel.from_pretrained(tmp_path / "run" / "discriminator")
    assert model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state.shape[1] == len(texts[0].split()) + 2
    assert "nothing to do" in quorem(*words).err
    items.write_text("other " + items.read_text(), encoding="utf-8")
    assert "its input (data) has changed" in quorem(*words).err


def test_a_separator_that_nothing_is_split_at_is_doubted(quorem, tmp_path, items, pretrain_settings):
    words = ["pretrain", items, "--tokenizer", "items", *pretrain_settings]
    assert "is tokenizer.separator" in quorem(*words, "--out", tmp_path / "a", "tokenizer.separator=,").err
    assert "is tokenizer.separator" not in quorem(*words, "--out", tmp_path / "b").err


def test_the_same_sessions_give_the_same_shards_in_every_format(quorem, tmp_path, items, pretrain_settings):
    texts = [",".join(line.split()) for line in items.read_text().splitlines()]
    separator, only = "tokenizer.separator=,", ["--tokenizer", "items", "train.max_steps=1"]
    commas, zipped, table = tmp_path / "sessions", tmp_path / "a.TXT.gz", tmp_path / "a.csv"
    commas.write_text("\r\n".join(texts) + "\r\n\r\n", encoding="utf-8")
    zipped.write_bytes(gzip.compress("\n".join(texts).encode()))
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    runs = [(items, []), (commas, [separator, "data.format=text"]), (zipped, [separator]), (table, [separator])]
    found = []
    for number, (path, more) in enumerate(runs):
        out = tmp_path / f"run {number}"
        assert quorem("pretrain", path, "--out", out, *pretrain_settings, *only, *more).code == 0
        found.append(Shards(out / "data" / "shards").tokens.tolist())
    assert found == [found[0]] * 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--text-column", "review"], "no column 'review'"),
        (["data.format=txt"], "data.format=txt: unknown"),
        (["data.format=csv"], "no column 'text'"),
        (["--tokenizer", "item"], "Did you mean items?"),
        (["tokenizer.separator=,"], "tokenizer.separator=, has no meaning for tokenizer.kind=words"),
        (["--tokenizer", "items", "tokenizer.separator=[MASK]"], "tokenizer.separator='[MASK]'"),
        (["--tokenizer", "items", "tokenizer.lowercase=false"], "tokenizer.lowercase=False has no meaning"),
        (["--tokenizer", "items", "tokenizer.normalization=nfkc"], "tokenizer.normalization=nfkc has no meaning"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_made(refused, tmp_path, items, words, message):
    assert message in refused("pretrain", items, "--out", tmp_path / "out", "model.size=tiny", *words)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "is a zip archive"),
        ("1 2\n".encode("utf-16-le"), "if the file is UTF-16, set data.encoding=utf-16-le"),
        (b"1 2\n\n \n3 \xff\n", "line 4: byte 0xff at byte offset 9"),
        (b"1 2\n3\0\n", "line 2: NUL byte"),
        (b"1 2\n3\r4\n", "line 2: a carriage return"),
        (b"\n\n", "all 2 lines are blank"),
    ],
)
def test_a_broken_text_file_is_refused_and_the_mended_one_accepted(
    refused, quorem, tmp_path, half_written, pretrain_settings, content, message
):
    path, out = tmp_path / "items.txt", tmp_path / "out"
    path.write_bytes(content)
    words = ["pretrain", path, "--tokenizer", "items", "--out", out, *pretrain_settings, "train.max_steps=1"]
    line = refused(*words)
    assert str(path) in line
    assert message in line
    assert half_written(out) == []
    path.write_text("1 2 3\n" * 20, encoding="utf-8")
    assert quorem(*words).code == 0


def test_learning_to_classify_needs_columns(refused, tmp_path, items, pretrained, classifier):
    for words in (["finetune", pretrained, items], ["predict", classifier, items, "--text-column", "text"]):
        line = refused(*words, "--out", tmp_path / "out")
        assert f"{items} is read as plain text" in line
        assert "need a CSV" in line
    assert "items.txt does not exist" in refused("pretrain", tmp_path / "no items.txt", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_samples_that_cannot_be_written(refused, tmp_path, items):
    out = tmp_path / "out.txt"
    line = refused("sample", "reviews", "--vocab-size", "5000", "--out", out)
    assert "--vocab-size 5000: only sample items has it" in line
    assert "vocab_size=99" in refused("sample", "items", "--vocab-size", "99", "--out", out)
    assert "exists already" in refused("sample", "items", "--out", items)
    for name in ("out.csv", "out.txt.gz", "out"):
        assert "ends in .txt" in refused("sample", "items", "--out", tmp_path / name)
        assert not (tmp_path / name).exists()
    assert "check the path and its permissions" in refused("sample", "items", "--out", items / "below.txt")
    assert not out.exists()
