"""Which tokens continue a word, for every kind of tokenizer."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.tokenization import TOKENIZERS, continuing, train_tokenizer
from quorem.tokenization.special import SPECIAL_TOKENS

TEXTS = ["the unbelievable player was playing, replaying and unbelieving again!", "a player plays 7 games; unplayable"]
IN_PIECES = ("wordpiece", "bpe", "unigram", "characters")


def words(tokenizer, text):
    """The text's tokens, joined by what `continuing` says."""
    continues, found = continuing(tokenizer), []
    for token in tokenizer.encode(text, add_special_tokens=False):
        piece = tokenizer.convert_ids_to_tokens(token).removeprefix("##").strip("\u2581\u0120")
        if found and continues[token]:
            found[-1] += piece
        else:
            found.append(piece)
    return [word for word in found if word]


@pytest.mark.parametrize("kind", IN_PIECES)
def test_pieces_make_the_words_they_came_from(kind):
    tokenizer = train_tokenizer(iter(TEXTS), kind=kind, vocab_size=65)
    assert any(len(tokenizer.tokenize(word)) > 1 for word in ("unbelievable", "replaying"))
    expected = ["the", "unbelievable", "player", "was", "playing", ",", "replaying", "and", "unbelieving", "again", "!"]
    assert words(tokenizer, TEXTS[0]) == expected


def test_byte_level_tokenizers_are_understood():
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    backend.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=80, special_tokens=list(SPECIAL_TOKENS)))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    assert "unbelieving" in words(tokenizer, TEXTS[0])


@pytest.mark.parametrize("kind", [kind for kind in TOKENIZERS if kind not in IN_PIECES])
def test_tokenizers_of_whole_words_are_refused(kind):
    with pytest.raises(UserError, match=r"objective\.whole_words=true.*tokenizer\.kind=wordpiece"):
        continuing(train_tokenizer(iter(TEXTS), kind=kind, vocab_size=65))
