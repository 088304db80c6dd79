"""Unigram language model: the pieces that make the words most probable."""

import importlib.util
import io
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers.models import Model, Unigram

from quorem.errors import UserError
from quorem.tokenization.special import SPECIAL_TOKENS
from quorem.tokenization.wordpiece import choose_alphabet

LONGEST = 2**20  # bytes of a word
NOT_IN_A_LINE = "\t\n\r\0"


def learn_unigram(counts: Counter[str], *, vocab_size: int, min_frequency: int) -> Model:
    """Keep the pieces whose loss would cost the words most probability (Kudo 2018, arXiv:1804.10959, sec. 3.2).

    Trained by the sentencepiece library: the tokenizers library sums in the order of a hash map, so that its scores
    differ from process to process. Every character kept is a piece, so that only characters left out are [UNK].

    Args:
        counts: how often each word occurs, marked by the steps.
        vocab_size: most tokens to have, the special ones included. Characters take at most half of it, the rarest being
            left out.
        min_frequency: rarer words are not learned from.

    Raises:
        UserError: if sentencepiece is not installed.
    """
    if importlib.util.find_spec("sentencepiece") is None:
        raise UserError("tokenizer.kind=unigram needs sentencepiece: pip install 'quorem[unigram]', or choose bpe")
    from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

    room = vocab_size - len(SPECIAL_TOKENS)
    kept_characters = choose_alphabet(counts, size=(room + 1) // 2)
    alphabet = set(kept_characters) - set(NOT_IN_A_LINE)
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        if count >= min_frequency:
            kept = "".join(character if character in alphabet else "\n" for character in word)
            parts.update({part: count for part in kept.split("\n") if part})
    if not parts:
        return Unigram([(token, 0.0) for token in SPECIAL_TOKENS], unk_id=1, byte_fallback=False)
    model = io.BytesIO()
    with TemporaryDirectory() as folder:
        words = Path(folder) / "words.tsv"
        words.write_text("".join(f"{part}\t{parts[part]}\n" for part in sorted(parts)), encoding="utf-8")
        SentencePieceTrainer.train(
            input=str(words), input_format="tsv", model_writer=model, model_type="unigram",
            vocab_size=room + 1, hard_vocab_limit=False, character_coverage=1.0,
            normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
            split_by_whitespace=False, split_by_unicode_script=False, split_by_number=False,
            max_sentence_length=LONGEST, num_threads=1,
            unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2,
        )  # fmt: skip
    learned = SentencePieceProcessor(model_proto=model.getvalue())
    pieces = [(learned.id_to_piece(i), round(learned.get_score(i), 6)) for i in range(1, learned.get_piece_size())]
    pieces.sort(key=lambda piece: (-piece[1], piece[0]))
    known = {piece for piece, _ in pieces}
    lacking = [(character, pieces[-1][1] - 1) for character in kept_characters if character not in known]
    pieces = [*pieces[: room - len(lacking)], *lacking]
    return Unigram([*((token, 0.0) for token in SPECIAL_TOKENS), *pieces], unk_id=1, byte_fallback=False)
