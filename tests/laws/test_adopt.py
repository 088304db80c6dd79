"""Tokenizers trained elsewhere: texts are cut as they were, special tokens have the first ids."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.tokenization import SPECIAL_TOKENS, adopt_tokenizer, encode, fingerprint, save_tokenizer, train_tokenizer
from quorem.tokenization.wrap import ROLES

CORPUS = [
    "the lazy dog jumps over the lazy fox",
    "größere Füße 東京 東京都",
    "emoji 👍🏽 and naïve café",
    "[MASK] <s> </s>",
] * 3
TEXTS = [*CORPUS[:3], "a fox unseen ЖЖ", "  two  spaces\t", ""]


def bert():
    """Special tokens at 0 and 100 to 103, as in bert-base."""
    pieces = {"##" + c for text in CORPUS for c in text} | {c for text in CORPUS for c in text if c.strip()}
    unused = [f"[unused{i}]" for i in range(99)]
    tokens = ["[PAD]", *unused, "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(pieces), "the", "lazy", "fox"]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    roles = dict(zip(ROLES, SPECIAL_TOKENS, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def gpt():
    """Byte-level BPE with an end of text only."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
        special_tokens=["<|endoftext|>"],
    )  # fmt: skip
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def sentencepiece():
    """Unigram with <s>, </s>, <unk>, <pad> among the pieces and <mask> added behind them, as in XLM-R."""
    letters = sorted({c for text in CORPUS for c in text.replace(" ", "\u2581")})
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [("\u2581the", -2.0), ("\u2581lazy", -3.0), ("fox", -3.5), *((letter, -8.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.add_tokens(["<extra>"])
    roles = {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def words():
    """Whole words without any special token but the unknown one, in the middle."""
    tokens = ["the", "lazy", "dog", "?", "fox", "over"]
    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")


FOREIGN = {"bert": bert, "gpt": gpt, "sentencepiece": sentencepiece, "words": words}
foreign = pytest.mark.parametrize("name", FOREIGN)


@foreign
def test_texts_are_cut_as_they_were_and_ids_renamed_one_to_one(tmp_path, name):
    old = FOREIGN[name]()
    old.save_pretrained(tmp_path)
    new = adopt_tokenizer(tmp_path)
    before, after = encode(old, TEXTS), encode(new, TEXTS)
    assert [old.convert_ids_to_tokens(ids) for ids in before] == [new.convert_ids_to_tokens(ids) for ids in after]
    assert any(after)
    renamed = {a: b for one, other in zip(before, after, strict=True) for a, b in zip(one, other, strict=True)}
    assert len(set(renamed.values())) == len(renamed)
    assert [new.decode(ids) for ids in after] == [old.decode(ids) for ids in before]


@foreign
def test_special_tokens_have_the_first_ids_and_every_id_is_a_token(tmp_path, name):
    old = FOREIGN[name]()
    old.save_pretrained(tmp_path)
    new = adopt_tokenizer(tmp_path)
    names = [getattr(new, role) for role in ROLES]
    assert new.convert_tokens_to_ids(names) == [0, 1, 2, 3, 4]
    assert [getattr(old, role) or token for role, token in zip(ROLES, SPECIAL_TOKENS, strict=True)] == names
    assert sorted(new.get_vocab().values()) == list(range(len(new)))
    assert set(old.get_vocab()) | set(names) == set(new.get_vocab())
    (ids,) = encode(new, ["the lazy fox"])
    assert new("the lazy fox")["input_ids"] == [2, *ids, 3]
    assert new(f"the {names[4]}")["input_ids"][-2] == 4


@foreign
def test_what_was_adopted_and_saved_is_adopted_unchanged(tmp_path, name):
    FOREIGN[name]().save_pretrained(tmp_path / "old")
    new = adopt_tokenizer(tmp_path / "old")
    save_tokenizer(new, tmp_path / "new")
    again = adopt_tokenizer(tmp_path / "new")
    assert fingerprint(again) == fingerprint(new)
    assert encode(again, TEXTS) == encode(new, TEXTS)


def test_a_tokenizer_of_our_own_is_taken_as_it_is(tmp_path):
    own = train_tokenizer(CORPUS, kind="wordpiece", vocab_size=200)
    save_tokenizer(own, tmp_path)
    assert fingerprint(adopt_tokenizer(tmp_path)) == fingerprint(own)


@pytest.mark.parametrize(
    "post", [None, processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))], ids=["none", "roberta"]
)
def test_one_whose_ids_are_right_puts_cls_and_sep_around_texts_too(tmp_path, post):
    ours = train_tokenizer(CORPUS, kind="wordpiece", vocab_size=100)
    backend = Tokenizer.from_str(ours.backend_tokenizer.to_str())
    backend.post_processor = processors.Sequence([]) if post is None else post
    roles = dict(zip(ROLES, SPECIAL_TOKENS, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=77, **roles).save_pretrained(tmp_path)
    adopted = adopt_tokenizer(tmp_path)
    for given in ((TEXTS[0],), (TEXTS[0], TEXTS[1])):
        found, expected = adopted(*given), ours(*given)
        assert found["input_ids"] == expected["input_ids"]
        assert found["token_type_ids"] == expected["token_type_ids"]
    assert adopted.get_vocab() == ours.get_vocab()
    assert adopted.model_max_length == 77


def test_what_cannot_be_adopted_is_named(tmp_path):
    with pytest.raises(UserError, match=r"tokenizer.path=.*: no tokenizer.json there"):
        adopt_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        adopt_tokenizer(tmp_path)
    tokenizer = words()
    tokenizer.pad_token = tokenizer.mask_token = "?"
    tokenizer.save_pretrained(tmp_path / "twice")
    with pytest.raises(UserError, match=r"two special tokens are the same .*mask_token \?"):
        adopt_tokenizer(tmp_path / "twice")
