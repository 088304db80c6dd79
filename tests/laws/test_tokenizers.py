"""What every kind of tokenizer must do, and what each kind adds."""

import json
import logging
import os
import re
import socket
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig

from quorem.errors import UserError
from quorem.tokenization import (
    SPECIAL_TOKENS,
    TOKENIZERS,
    encode,
    fingerprint,
    load_tokenizer,
    save_tokenizer,
    train_tokenizer,
)
from quorem.tokenization.steps import MARK

WORLD = [
    "The quick brown fox doesn't jump over the lazy dog, the dog jumps.",
    "हिन्दी में लिखा हुआ वाक्य।",
    "ภาษาไทย น้ำ ที่นี่",
    "مَرْحَبًا بِالعَالَم",
    "안녕하세요 세계",
    "我喜欢中文。 你呢？",  # noqa: RUF001
    "これはペンです。 がぎぐ",
    "family 👨‍👩‍👧 flag 🇩🇪 thumbs 👍🏽",
    "Größe naïve Žižek ἄνθρωπος",
    "نامه‌ای co\u00adoperate \x00\x1c\ufffd",
]
kinds = pytest.mark.parametrize("kind", TOKENIZERS)
TEXT_KINDS = ["words", "wordpiece", "bpe", "unigram", "characters"]  # items keep more: test_items.py
text_kinds = pytest.mark.parametrize("kind", TEXT_KINDS)
marked_kinds = pytest.mark.parametrize("kind", TEXT_KINDS[2:])  # they know where spaces were
words_of = st.lists(st.text("aBé#[]MASK漢", min_size=1, max_size=4), min_size=1, max_size=30)


class DummyConfig(PreTrainedConfig):
    model_type = "quorem-tokenizer-test"


def drop_space(text):
    """Without what the splitter takes for whitespace (Unicode White_Space: Python adds U+001C to U+001F), and marks."""
    kept = (character for character in text if not character.isspace() or "\x1c" <= character <= "\x1f")
    return "".join(kept).replace(MARK, "")


def rebuild(tokenizer, ids):
    """The text of ids without any whitespace."""
    pieces = (token.removeprefix("##") if len(token) > 2 else token for token in names(tokenizer, ids))
    return "".join(pieces).replace(MARK, "")


def taken(kind, **options):
    """Those of the options that have a meaning for the kind."""
    return {name: value for name, value in options.items() if name in TOKENIZERS[kind].options}


def names(tokenizer, ids):
    return tokenizer.convert_ids_to_tokens(ids)


@kinds
def test_special_tokens_come_first_and_fill_their_roles(kind):
    tokenizer = train_tokenizer(WORLD, kind=kind, vocab_size=500)
    assert names(tokenizer, range(5)) == list(SPECIAL_TOKENS) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    roles = ("pad", "unk", "cls", "sep", "mask")
    assert [getattr(tokenizer, f"{role}_token_id") for role in roles] == [0, 1, 2, 3, 4]


@kinds
@settings(deadline=None, max_examples=30)
@given(words=words_of, vocab_size=st.integers(7, 40))
def test_len_is_the_number_of_ids_and_never_above_vocab_size(kind, words, vocab_size):
    tokenizer = train_tokenizer([" ".join(words)], kind=kind, vocab_size=vocab_size)
    assert 5 < len(tokenizer) <= vocab_size
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


@kinds
def test_call_adds_cls_and_sep_and_pads_right(kind):
    tokenizer = train_tokenizer(["a b c"], kind=kind, vocab_size=50, model_max_length=4)
    a, b, both, whole = encode(tokenizer, ["a", "b", "b c", "a b c"])
    batch = tokenizer(["a", "b c"], padding=True)
    assert batch["input_ids"] == [[2, *a, 3, *[0] * (len(both) - len(a))], [2, *both, 3]]
    assert [sum(mask) for mask in batch["attention_mask"]] == [len(a) + 2, len(both) + 2]
    assert tokenizer("a b c", truncation=True)["input_ids"] == [2, *whole[:2], 3]
    assert tokenizer("a", "b")["input_ids"] == [2, *a, 3, *b, 3]
    assert tokenizer("[MASK]")["input_ids"] == [2, 4, 3]


@kinds
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("normalization", ["nfc", "nfkc", "none"])
def test_user_text_never_gives_a_special_token_but_unk(kind, lowercase, normalization):
    texts = [*SPECIAL_TOKENS, " ".join(SPECIAL_TOKENS).lower(), "a[MASK]b [SEP] [ MASK ]", "［MASK］", "##a"]  # noqa: RUF001
    options = taken(kind, lowercase=lowercase, normalization=normalization)
    tokenizer = train_tokenizer(texts * 3, kind=kind, vocab_size=300, **options)
    seen = encode(tokenizer, texts)
    assert not {0, 1, 2, 3, 4} & {index for ids in seen for index in ids}
    if options and normalization != "nfkc":
        assert rebuild(tokenizer, seen[4]) == ("[mask]" if lowercase else "[MASK]")
    ignorant = train_tokenizer(["x"], kind=kind, vocab_size=300, **options)
    mark = ignorant.get_vocab().get(MARK)  # a space is known
    assert {index for ids in encode(ignorant, texts) for index in ids} - {mark} == {1}


@pytest.mark.slow
@kinds
@settings(deadline=None, max_examples=50)
@given(text=st.text())
def test_no_text_gives_a_special_token_or_an_error(kind, text):
    tokenizer = train_tokenizer([*WORLD, text], kind=kind, vocab_size=2000)
    (ids,) = encode(tokenizer, [text])
    assert not {0, 1, 2, 3, 4} & set(ids)


@text_kinds
@pytest.mark.parametrize("text", WORLD)
def test_only_whitespace_is_lost_in_any_script(kind, text):
    tokenizer = train_tokenizer(WORLD, kind=kind, vocab_size=2000, lowercase=False, normalization="none")
    assert rebuild(tokenizer, encode(tokenizer, [text])[0]) == drop_space(text)


@pytest.mark.slow
@text_kinds
@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=60).filter(drop_space))
def test_only_whitespace_is_lost_of_any_text(kind, text):
    tokenizer = train_tokenizer([text], kind=kind, vocab_size=2000, lowercase=False, normalization="none")
    assert rebuild(tokenizer, encode(tokenizer, [text])[0]) == drop_space(text)


@marked_kinds
@pytest.mark.parametrize("text", WORLD)
def test_decoding_gives_the_text_back_with_single_spaces(kind, text):
    tokenizer = train_tokenizer(WORLD, kind=kind, vocab_size=2000, lowercase=False, normalization="none")
    assert tokenizer.decode(encode(tokenizer, [f"  {text}\t"])[0]) == re.sub(r"[^\S\x1c-\x1f]+", " ", text)


@pytest.fixture(scope="module")
def learned():
    """What another process and this one learn from the same texts in other orders: the fingerprint of every kind."""
    program = (
        "import sys, json, random; from quorem.samples.reviews import reviews; from quorem.tokenization import *\n"
        "texts = [text for text, _ in reviews(400)]; random.Random(1).shuffle(texts)\n"
        "learn = lambda kind: fingerprint(train_tokenizer(texts, kind=kind, vocab_size=900))\n"
        f"found = {{kind: learn(kind) for kind in {list(TOKENIZERS)!r}}}"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # this process has another, as good as certainly
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print(json.dumps(found))"], env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    here: dict[str, dict[str, str]] = {}
    exec(program.replace("Random(1)", "Random(2)"), here)
    return json.loads(done.stdout), here["found"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_processes_that_hash_otherwise_learn_the_same(kind, learned):
    """Rust's and Python's hash maps have an order of their own in every process."""
    first, second = learned
    assert first[kind] == second[kind]


@kinds
def test_encode_ignores_and_leaves_alone_what_earlier_calls_set(kind):
    tokenizer = train_tokenizer(["a b c"], kind=kind, vocab_size=50, model_max_length=3)
    texts = ["a b c a b", "a"]
    plain = encode(tokenizer, texts)
    assert len(plain[0]) >= 5
    tokenizer(texts, padding=True, truncation=True)
    assert encode(tokenizer, texts) == plain
    assert tokenizer.backend_tokenizer.encode("[MASK]", add_special_tokens=False).ids == [4]
    assert encode(tokenizer, []) == []
    assert encode(tokenizer, ["", " "]) == [[], []]


@kinds
def test_same_texts_in_any_order_give_the_same_tokenizer(kind):
    corpus = [f"{first}{second}ab {second}{first}cd" for first in "efghijklm" for second in "nopqrstuv"]  # all ties
    first = train_tokenizer(iter(corpus), kind=kind, vocab_size=90)
    again = [train_tokenizer(reversed(corpus), kind=kind, vocab_size=90) for _ in range(3)]
    assert {one.backend_tokenizer.to_str() for one in again} == {first.backend_tokenizer.to_str()}
    assert {fingerprint(one) for one in again} == {fingerprint(first)}


@kinds
def test_fingerprint_tells_tokenizers_apart_but_not_uses(kind):
    tokenizer = train_tokenizer(["a b c"], kind=kind, vocab_size=50, model_max_length=3)
    before = fingerprint(tokenizer)
    tokenizer(["a b c", "a"], padding=True, truncation=True)
    assert fingerprint(tokenizer) == before
    assert len(before) == 64
    others = [train_tokenizer(["a b d"], kind=kind, vocab_size=50)] + [
        train_tokenizer(["a b c"], kind=kind, vocab_size=50, **{name: value})
        for name, value in taken(kind, lowercase=False, strip_accents=True, separator=" ").items()
    ]
    assert len({before, *map(fingerprint, others)}) == len(others) + 1 >= 3


@kinds
def test_folder_loads_back_without_network(kind, tmp_path, monkeypatch):
    tokenizer = train_tokenizer(WORLD, kind=kind, vocab_size=300, model_max_length=77)
    tokenizer(WORLD, padding=True, truncation=True)
    folder = tmp_path / "new" / "tokenizer"
    save_tokenizer(tokenizer, folder)

    def refuse(*_args, **_kwargs):
        raise AssertionError("network used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    loaded = load_tokenizer(folder)
    assert fingerprint(loaded) == fingerprint(tokenizer)
    assert (len(loaded), loaded.model_max_length, loaded.padding_side) == (len(tokenizer), 77, "right")
    assert encode(loaded, WORLD) == encode(tokenizer, WORLD)
    vocabulary = (folder / "vocab.txt").read_bytes().decode().split("\n")
    assert vocabulary == [*names(tokenizer, range(len(tokenizer))), ""]
    save_tokenizer(loaded, tmp_path / "second")
    for name in ("tokenizer.json", "vocab.txt"):
        assert (tmp_path / "second" / name).read_bytes() == (folder / name).read_bytes()


@kinds
@pytest.mark.parametrize("with_config", [False, True])
def test_auto_tokenizer_gives_identical_ids_without_warning(kind, with_config, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    tokenizer = train_tokenizer(WORLD, kind=kind, vocab_size=300)
    save_tokenizer(tokenizer, tmp_path)
    if with_config:
        AutoConfig.register(DummyConfig.model_type, DummyConfig, exist_ok=True)
        DummyConfig().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*WORLD, "a [MASK] b"]
    assert loaded(texts)["input_ids"] == tokenizer(texts)["input_ids"]
    assert encode(loaded, texts) == encode(tokenizer, texts)
    assert len(loaded) == len(tokenizer)
    assert fingerprint(loaded) == fingerprint(tokenizer)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_load_names_the_folder_and_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer in .*nowhere.*tokenizer\.json is missing"):
        load_tokenizer(tmp_path / "nowhere")
    save_tokenizer(train_tokenizer(["a"], vocab_size=9), tmp_path)
    config = tmp_path / "tokenizer_config.json"
    settings_found = json.loads(config.read_text())
    del settings_found["mask_token"]
    config.write_text(json.dumps(settings_found))
    with pytest.raises(UserError, match="has no mask_token"):
        load_tokenizer(tmp_path)
    whole = (tmp_path / "tokenizer.json").read_text()
    for damaged in ("", whole[: len(whole) // 2], "{}", "[]", whole.replace("WordLevel", "Wrong")):
        (tmp_path / "tokenizer.json").write_text(damaged)
        with pytest.raises(UserError, match="cannot read the tokenizer in"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "wordpeice"}, "kind='wordpeice' is unknown. Did you mean wordpiece?"),
        ({"normalization": "nfd"}, "normalization='nfd' is unknown"),
        ({"vocab_size": 5}, "vocab_size=5 is too small"),
        ({"min_frequency": 0}, "min_frequency=0 is not allowed"),
        ({"separator": ","}, "separator=, has no meaning for tokenizer.kind=words"),
        ({"kind": "items", "lowercase": False}, "lowercase=False has no meaning for tokenizer.kind=items"),
        ({"kind": "items", "strip_accents": True}, "strip_accents=True has no meaning"),
        ({"kind": "items", "normalization": "nfkc"}, "normalization=nfkc has no meaning"),
        ({"kind": "items", "separator": ""}, "at least one character is needed"),
        ({"kind": "items", "separator": "[SEP]"}, r"tokenizer.separator='\[SEP\]'"),
        ({"kind": "items", "separator": "\\n"}, "a tab"),
        ({"texts": []}, "0 distinct words found"),
        ({"texts": ["", " \n"]}, "0 distinct words found"),
        ({"min_frequency": 9}, "min_frequency=9"),
        ({"kind": "wordpiece", "vocab_size": 6}, "raise vocab_size"),
        ({"texts": ["a", None]}, r"text 1 \(counted from 0\) is None"),
        ({"texts": ["a", "b\ud800"]}, r"text 1 .* lone surrogate '\\ud800' at character 1"),
    ],
)
def test_train_explains_what_the_user_can_fix(options, message):
    with pytest.raises(UserError, match=message):
        train_tokenizer(**{"texts": ["a b c"], "vocab_size": 50} | options)


@pytest.mark.parametrize("bad", [None, 3, "b\ud800"])
def test_encode_names_the_row_of_a_bad_text(bad):
    tokenizer = train_tokenizer(["a"], vocab_size=9)
    with pytest.raises(UserError, match="text 1 "):
        encode(tokenizer, ["a", bad])
    assert tokenizer.encode("[MASK]", add_special_tokens=False) == [4]


def test_what_takes_long_is_announced(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "quorem")
    for many, said in ((4, False), (3, True)):
        monkeypatch.setattr("quorem.tokenization.train.MANY_WORDS", many)
        train_tokenizer(["a b c"], vocab_size=1_000)
        assert ("learning at most 1,000 tokens from 3 different words" in caplog.text) == said


def test_words_are_numbered_by_falling_frequency_then_by_code_point():
    tokenizer = train_tokenizer(["c b, b a", "z c d z z d y"], vocab_size=100)
    assert names(tokenizer, range(5, len(tokenizer))) == ["z", "b", "c", "d", ",", "a", "y"]


def test_words_beyond_the_vocabulary_or_too_rare_are_unknown():
    texts = ["a a a b b c"]
    assert encode(train_tokenizer(texts, vocab_size=6), ["a b c new"]) == [[5, 1, 1, 1]]
    assert encode(train_tokenizer(texts, vocab_size=50, min_frequency=2), ["a b c new"]) == [[5, 6, 1, 1]]


def test_wordpiece_cuts_new_words_of_known_characters_and_only_those():
    tokenizer = train_tokenizer(["low lower lowest new newer newest"] * 5, kind="wordpiece", vocab_size=60)
    assert names(tokenizer, encode(tokenizer, ["lowest"])[0]) == ["lowest"]
    ids = encode(tokenizer, ["westlow"])[0]
    assert rebuild(tokenizer, ids) == "westlow"
    assert all(token.startswith("##") for token in names(tokenizer, ids)[1:])
    assert names(tokenizer, encode(tokenizer, ["lowü new"])[0]) == ["low", "[UNK]", "new"]
    assert tokenizer.decode(ids) == "westlow"


def test_wordpiece_leaves_out_the_rarest_characters_when_they_do_not_fit():
    tokenizer = train_tokenizer(["aa aa bb bb c"], kind="wordpiece", vocab_size=9)
    assert names(tokenizer, range(5, 9)) == ["a", "b", "##a", "##b"]
    assert encode(tokenizer, ["ab c"]) == [[5, 8, 1]]


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ({}, ["É é e\u0301", "e", "ﬁx", "FIX", "ｆｉｘ"]),  # noqa: RUF001
        ({"lowercase": False}, ["É", "é e\u0301", "e", "ﬁx", "FIX", "ｆｉｘ"]),  # noqa: RUF001
        ({"strip_accents": True}, ["É é e\u0301 e", "ﬁx", "FIX", "ｆｉｘ"]),  # noqa: RUF001
        ({"normalization": "nfkc"}, ["É é e\u0301", "e", "ﬁx FIX ｆｉｘ"]),  # noqa: RUF001
        ({"normalization": "none", "lowercase": False}, ["É", "é", "e\u0301", "e", "ﬁx", "FIX", "ｆｉｘ"]),  # noqa: RUF001
    ],
)
def test_options_decide_which_spellings_are_one_word(options, groups):
    tokenizer = train_tokenizer(groups, vocab_size=50, **options)
    found = [set(ids) for ids in encode(tokenizer, groups)]
    assert [len(ids) for ids in found] == [1] * len(groups)
    assert len(tokenizer) == 5 + len(groups) == 5 + len(set.union(*found))


def test_strip_accents_keeps_korean_whole():
    tokenizer = train_tokenizer(["안녕 Žižek"], vocab_size=50, strip_accents=True)
    assert set(names(tokenizer, range(5, len(tokenizer)))) == {"안녕", "zizek"}
