"""How much of texts a vocabulary does not know: what is [UNK], and that every command says so."""

import json
import logging
import random

import pytest

from quorem.config.loading import override
from quorem.config.settings import PrepareConfig
from quorem.data.documents import Document
from quorem.data.prepare import prepare
from quorem.data.shards import Shards, merge_shards, write_shards
from quorem.errors import UserError
from quorem.tokenization import Unknown, encode, train_tokenizer
from quorem.tokenization.unknown import ALL_UP_TO, SAMPLED_EVERY

THAI = "ภาษาไทยเขียนติดกันโดยไม่เว้นวรรคระหว่างคำจึงยาวมาก"


def tokens_of(tokenizer, text):
    return tokenizer.convert_ids_to_tokens(encode(tokenizer, [text])[0])


@pytest.mark.parametrize("text", [THAI * 20, "GATTACA" * 200, "日本語の文章" * 30, "a" * 5_000], ids=str)
def test_a_run_of_any_length_without_a_space_is_cut_into_pieces(text):
    tokenizer = train_tokenizer([text], kind="wordpiece", vocab_size=300)
    found = tokens_of(tokenizer, text)
    assert "[UNK]" not in found
    assert "".join(piece.removeprefix("##") for piece in found) == text.lower()


def test_words_of_a_hundred_characters_and_less_are_cut_as_before():
    words = ["x" * 99, "xy" * 50, "z" * 101]
    tokenizer = train_tokenizer([" ".join(words)], kind="wordpiece", vocab_size=200)
    for word in words[:2]:
        first, *others = tokens_of(tokenizer, word)
        assert not first.startswith("##")
        assert all(piece.startswith("##") for piece in others)
    assert sum(not piece.startswith("##") for piece in tokens_of(tokenizer, words[2])) == 2


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "characters"])
def test_a_character_out_of_the_vocabulary_is_unknown_and_its_neighbours_are_not(kind):
    if kind == "unigram":
        pytest.importorskip("sentencepiece")
    tokenizer = train_tokenizer(["great movie"] * 5, kind=kind, vocab_size=60)
    found = tokens_of(tokenizer, "great😀movie")
    assert found.count("[UNK]") == 1
    letters = "".join(piece.removeprefix("##").replace("▁", "") for piece in found if piece != "[UNK]")
    assert letters == "greatmovie"


def test_rare_characters_left_out_of_a_small_alphabet_are_unknown_alone():
    tokenizer = train_tokenizer(["ab ab ab ab zq"], kind="wordpiece", vocab_size=5 + 4)
    assert tokens_of(tokenizer, "abzab") == ["a", "##b", "[UNK]", "a", "##b"]


def counted(tokenizer, texts, numbers=None):
    found = Unknown()
    found.add(tokenizer, texts, encode(tokenizer, texts), numbers or range(1, len(texts) + 1))
    return found


def test_characters_are_counted_beside_tokens():
    tokenizer = train_tokenizer(["a b c"], kind="words", vocab_size=20)
    found = counted(tokenizer, ["a " + "q" * 98, "b  c\tb"])
    assert found == Unknown(tokens=5, unknown=1, characters=102, lost=98)
    assert str(found) == "20.00 % of tokens and 96.08 % of characters unknown"
    assert counted(tokenizer, ["", "   "]) == Unknown()
    assert str(Unknown()) == "0.00 % of tokens unknown"


def test_the_tally_of_parts_adds_up_to_that_of_all():
    tokenizer = train_tokenizer(["a b c d e"], kind="words", vocab_size=8)
    rng = random.Random(0)
    texts = [" ".join(rng.choices(["a", "b", "cc", "dd", "eee"], k=rng.randrange(9))) for _ in range(3_000)]
    numbers = list(range(1, 3_001))
    whole = counted(tokenizer, texts)
    parts = sum((counted(tokenizer, texts[i : i + 70], numbers[i : i + 70]) for i in range(0, 3_000, 70)), Unknown())
    assert parts == whole
    exact = sum(len(word) for text in texts for word in text.split() if word not in tokenizer.get_vocab())
    assert whole.lost == pytest.approx(exact, rel=0.1)
    assert ALL_UP_TO < 3_000 - SAMPLED_EVERY, "some of the rows are sampled here"
    early = counted(tokenizer, texts[:ALL_UP_TO])
    assert early.lost == sum(
        len(word) for text in texts[:ALL_UP_TO] for word in text.split() if word not in tokenizer.get_vocab()
    )


def test_shards_keep_the_tally_and_merged_ones_the_sum(tmp_path):
    tokenizer = train_tokenizer(["a b"], kind="words", vocab_size=20)
    parts = []
    for name, texts in (("one", ["a b long"]), ("two", ["b", "worse"])):
        parts.append(tmp_path / name)
        documents = [Document(text, row=row) for row, text in enumerate(texts, start=1)]
        write_shards(parts[-1], documents, tokenizer, made_from={"tokenizer": "t", "data": name})
    assert Shards(parts[0]).unknown == Unknown(tokens=3, unknown=1, characters=6, lost=4)
    merge_shards(tmp_path / "all", parts)
    assert Shards(tmp_path / "all").unknown == Unknown(tokens=5, unknown=2, characters=12, lost=9)


def test_shards_of_versions_that_did_not_count_characters_say_what_is_unknown_of_tokens(tmp_path):
    tokenizer = train_tokenizer(["a b"], kind="words", vocab_size=20)
    write_shards(tmp_path / "s", [Document("a b q", row=1)], tokenizer, made_from={})
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    del meta["unknown"]
    (tmp_path / "s" / "meta.json").write_text(json.dumps(meta))
    found = Shards(tmp_path / "s").unknown
    assert str(found) == "33.33 % of tokens unknown"
    assert found.share == pytest.approx(1 / 3)


def test_more_than_is_allowed_is_an_error_with_advice():
    much = Unknown(tokens=10, unknown=2, characters=100, lost=80)
    much.check("x.csv", 0.8, "advice")
    with pytest.raises(UserError, match=r"x.csv: 20.00 % of tokens and 80.00 % of characters unknown, more than "
                       r"data.max_unknown=0.5 allows: advice, or set it to 1"):  # fmt: skip
        much.check("x.csv", 0.5, "advice")


@pytest.mark.parametrize("kind", ["words", "wordpiece", "bpe"])
def test_words_that_are_events_bring_the_hint_to_keep_them_whole(kind, caplog):
    events = " ".join(["Bar_None", "Position_0", "Pitch_60", "Velocity_99", "Duration_1.0.8"] * 300)
    train_tokenizer(iter([events]), kind=kind, vocab_size=100)
    assert "words look like events (Position_0)" in caplog.text
    assert "--tokenizer items" in caplog.text


def test_text_without_spaces_brings_the_hint_to_cut_it(caplog):
    rng = random.Random(0)
    texts = ["".join(rng.choices(THAI, k=30)) for _ in range(1_500)]
    train_tokenizer(texts, kind="words", vocab_size=5_000)
    assert "100 % of all words occur only once" in caplog.text
    assert "--tokenizer wordpiece, unigram or characters" in caplog.text


def test_ids_of_rows_as_items_bring_a_question(caplog):
    train_tokenizer([f"id{number}" for number in range(1_500)], kind="items", vocab_size=5_000)
    assert "check the column, and that tokenizer.separator is what separates the items" in caplog.text


def test_items_with_a_comma_behind_bring_the_hint_to_split_there(caplog):
    train_tokenizer(["12, 13, 12, 15"] * 400, kind="items", vocab_size=100)
    assert "75 % of all items end in ',', which is a part of them: give 'tokenizer.separator=, ' if" in caplog.text
    caplog.clear()
    train_tokenizer(["12,\t13,\t12,\t15"] * 400, kind="items", vocab_size=100, separator="\t")
    found = train_tokenizer(["12, 13, 12, 15"] * 400, kind="items", vocab_size=100, separator=", ")
    assert sorted(found.get_vocab())[:3] == ["12", "13", "15"]
    assert caplog.text == ""


def test_ordinary_texts_and_events_kept_whole_bring_no_hint(caplog):
    caplog.set_level(logging.INFO)
    rng = random.Random(0)
    words = [f"w{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(300)]
    texts = [" ".join(rng.choices(words, k=20)) + " at 10:30" for _ in range(300)]
    for kind in ("words", "wordpiece", "items"):
        train_tokenizer(texts, kind=kind, vocab_size=500)
    train_tokenizer(["Pitch_60 Bar_None Pitch_61"] * 500, kind="items", vocab_size=100)
    assert caplog.text == ""


@pytest.mark.parametrize("kind", ["words", "wordpiece", "bpe", "items", "characters"])
def test_tokens_that_are_whole_lines_bring_a_hint(tmp_path, kind, caplog):
    rng = random.Random(0)
    (tmp_path / "a.txt").write_text("\n".join("".join(rng.choices(THAI, k=90)) for _ in range(20)), encoding="utf-8")
    settings = [f"data.path={tmp_path / 'a.txt'}", f"tokenizer.kind={kind}"]
    prepare(override(PrepareConfig(), settings), tmp_path / "out")
    assert ("if the text is written without spaces, the vocabulary holds whole" in caplog.text) == (
        kind in ("words", "wordpiece", "bpe")
    )
