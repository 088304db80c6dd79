"""Count how much of the texts becomes [UNK]."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.tokenization.encode import places_of

ALL_UP_TO = 1_000  # rows of a file; of later ones every SAMPLED_EVERY-th is looked at, for that encodes it again
SAMPLED_EVERY = 16


@dataclass
class Unknown:
    """A tally of tokens and characters, and how many of them are unknown.

    A word of 80 characters is one [UNK] like a word of two, so tokens alone do not say how much of a text is lost.
    Tallies of parts add up to that of the whole, whatever the parts.

    Attributes:
        tokens: of texts, special tokens aside.
        unknown: of these, [UNK].
        characters: of texts, whitespace aside; 0 where texts are ids.
        lost: of these, inside [UNK]; after the first rows of a file it is estimated from every SAMPLED_EVERY-th.
    """

    tokens: int = 0
    unknown: int = 0
    characters: int = 0
    lost: int = 0

    def add(
        self, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], rows: Sequence[Sequence[int]],
        numbers: Sequence[int],
    ) -> None:  # fmt: skip
        """Count some texts.

        Args:
            tokenizer: that encoded them.
            texts: any.
            rows: the ids of each, from `encode`.
            numbers: the row of each in its file, which decides whether it is looked at.
        """
        here = self.add_ids(rows, tokenizer.unk_token_id)
        self.characters += sum(map(_visible, texts))
        early, later = [], []
        for text, number, some in zip(texts, numbers, here, strict=True):
            if some and number <= ALL_UP_TO:
                early.append(text)
            elif some and number % SAMPLED_EVERY == 0:
                later.append(text)
        self.lost += _lost(tokenizer, early) + SAMPLED_EVERY * _lost(tokenizer, later)

    def add_ids(self, rows: Sequence[Sequence[int]], unknown_id: int) -> list[int]:
        """Count the tokens alone; how many of each row are unknown."""
        here = [row.count(unknown_id) for row in rows]
        self.tokens += sum(map(len, rows))
        self.unknown += sum(here)
        return here

    def __add__(self, other: "Unknown") -> "Unknown":
        return Unknown(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    @property
    def share(self) -> float:
        """Of the characters, or of tokens where characters were not counted: how much is unknown, 0 to 1."""
        if not self.characters:
            return self.unknown / max(1, self.tokens)
        return min(1.0, self.lost / self.characters) if self.unknown else 0.0

    def check(self, what: object, most: float, advice: str) -> None:
        """Refuse texts with too large an unknown share.

        Args:
            what: name of the texts, for the message.
            most: largest share.
            advice: what to do.

        Raises:
            UserError: if the share is larger.
        """
        if self.share > most:
            raise UserError(f"{what}: {self}, more than data.max_unknown={most:g} allows: {advice}, or set it to 1")

    def __str__(self) -> str:
        tokens = f"{100 * self.unknown / max(1, self.tokens):.2f} % of tokens"
        if not self.characters:
            return f"{tokens} unknown"
        return f"{tokens} and {100 * self.share:.2f} % of characters unknown"


def _lost(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> int:
    """Characters inside [UNK]."""
    if not texts:
        return 0
    places = places_of(tokenizer.unk_token_id, tokenizer, texts)
    return sum(_visible(text[start:end]) for text, found in zip(texts, places, strict=True) for start, end in found)


def _visible(text: str) -> int:
    """Characters that are no whitespace."""
    return sum(map(len, text.split()))
