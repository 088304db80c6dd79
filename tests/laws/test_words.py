"""Vocabularies of whole words and items: what does not fit is said, with the size that has room for all."""

import logging
from collections import Counter

import pytest

from quorem.tokenization.special import SPECIAL_IDS
from quorem.tokenization.words import learn_words

COUNTS = Counter({"a": 5, "b": 4, "c": 3, "d": 1})


@pytest.mark.parametrize(("room", "said"), [(2, "leaves out 1 of 3 different tokens"), (3, ""), (9, "")])
def test_what_a_vocabulary_has_no_room_for_is_said(caplog, room, said):
    caplog.set_level(logging.INFO, logger="quorem")
    model = learn_words(COUNTS, vocab_size=SPECIAL_IDS + room, min_frequency=2)
    assert model.token_to_id("c") == (None if said else SPECIAL_IDS + 2)
    assert said in caplog.text
    assert (f"model.vocab_size={SPECIAL_IDS + 3} keeps them all" in caplog.text) == bool(said)
