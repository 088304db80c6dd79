"""Questions about texts as rows: read, their answers found in the texts, encoded, and cut into windows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizerFast

from quorem.errors import UserError
from quorem.finetuning.rows import Examples
from quorem.finetuning.windows import Window, windows
from quorem.tokenization import Unknown, encode
from quorem.tokenization.encode import encode_places

ENCODED_AT_ONCE = 1_000
SHORTEST = 5  # window: a token of the question, one of the text, and special tokens
MOST_SPACELESS = 0.05  # share of whitespace: a sixth of English, a quarter of Korean, a hundredth of Japanese


@dataclass(frozen=True, slots=True)
class Passage:
    """A text that questions are answered from; those of one text share it.

    Attributes:
        text: as it was read.
        ids: its tokens.
        places: int64 (tokens, 2), where each begins and ends in the text, in characters.
    """

    text: str
    ids: list[int]
    places: np.ndarray

    def tokens(self, start: int, end: int) -> tuple[int, int] | None:
        """The first and the last token that characters start to end - 1 are part of; None where none is."""
        first = int(np.searchsorted(self.places[:, 1], start, side="right"))
        last = int(np.searchsorted(self.places[:, 0], end, side="left")) - 1
        return (first, last) if first <= last else None

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Where tokens first to last begin and end in the text, without whitespace at either end."""
        start, end = int(self.places[first, 0]), int(self.places[last, 1])
        found = self.text[start:end]
        start += len(found) - len(found.lstrip())
        return start, start + len(found.strip())


class Gold(NamedTuple):
    """The answers to a question.

    Attributes:
        texts: all of them; none where the text has no answer.
        span: where the first one begins and ends in the text, in characters.
    """

    texts: tuple[str, ...]
    span: tuple[int, int] | None = None


class Labels(NamedTuple):
    """What a window is to be answered with: places of tokens in its row, 0 for none.

    Attributes:
        start: of the first token.
        end: of the last token.
        impossible: whether the question has no answer in the whole text.
    """

    start: int
    end: int
    impossible: bool


class Origin(NamedTuple):
    """Which window of which question a row is.

    Attributes:
        question: its place among the questions.
        window: of the text's tokens.
        shift: what is added to the place of a token in the text to be its place in the row.
    """

    question: int
    window: Window
    shift: int


def parse_answers(value: str, start: str | None) -> list[tuple[str, int | None]]:
    """Answers with their beginnings, as they are written in a column.

    Args:
        value: JSON of the lists `text` and `answer_start`, of a list of objects with these keys, or of a list of
            texts; else one answer as it stands, and where it is blank none.
        start: where a plain answer begins, in characters, as it is written; None or blank if that is not known.

    Raises:
        ValueError: for JSON of another form, or a beginning that is no whole number.
    """
    try:
        found: Any = json.loads(value) if value.lstrip().startswith(("{", "[")) else None
    except ValueError:
        found = None
    if isinstance(found, dict) and {"text"} <= found.keys():
        texts, starts = found["text"], found.get("answer_start")
        texts, starts = ([texts], [starts]) if isinstance(texts, str) else (texts or [], starts)
        if not (isinstance(texts, list) and isinstance(starts, list | None)):
            raise ValueError("no lists")
        pairs = list(zip(texts, starts or [None] * len(texts), strict=True))
    elif isinstance(found, list):
        pairs = [(each.get("text"), each.get("answer_start")) if isinstance(each, dict) else (each, None)
                 for each in found]  # fmt: skip
    else:
        pairs = [(value, start if start and start.strip() else None)] if value.strip() else []
    if not all(isinstance(text, str) for text, _ in pairs):
        raise ValueError("no texts")
    if any(isinstance(place, bool) or not isinstance(place, int | float | str | None) for _, place in pairs):
        raise ValueError("no places")
    if any(isinstance(place, float) and not place.is_integer() for _, place in pairs):  # pandas writes 3.0
        raise ValueError("no whole number")
    return [(text, None if place is None else int(place)) for text, place in pairs if text.strip()]


def find_answer(text: str, answer: str, start: int | None) -> int | None:
    """Where an answer begins in a text: where it is said to, else the nearest place; the first if nothing is said.

    None where the text does not have it.
    """
    if start is not None and start >= 0 and text.startswith(answer, start):
        return start
    places, at = [], text.find(answer)
    while at >= 0:
        places.append(at)
        at = text.find(answer, at + 1)
    return min(places, key=lambda place: abs(place - (start or 0)), default=None)


def encode_questions(
    tokenizer: PreTrainedTokenizerFast, questions: Sequence[str], texts: Sequence[str], unknown: Unknown
) -> Examples:
    """Rows of two lists of ids, [CLS] question [SEP] and the text; its Passage is the row's origin. Labels are to come.

    Args:
        tokenizer: its ids.
        questions: one for each row.
        texts: as many; each is encoded once, however many questions there are about it.
        unknown: a tally to keep.
    """
    passages = dict[str, Passage]()
    distinct = list(dict.fromkeys(texts))
    for begin in range(0, len(distinct), ENCODED_AT_ONCE):
        some = distinct[begin : begin + ENCODED_AT_ONCE]
        encoded = encode_places(tokenizer, some)
        unknown.add(tokenizer, some, [ids for ids, _ in encoded], range(begin + 1, begin + len(some) + 1))
        for text, (ids, places) in zip(some, encoded, strict=True):
            array = np.array(places, np.int64).reshape(-1, 2)
            passages[text] = Passage(text, ids, np.maximum.accumulate(array, 0) if len(array) else array)
    asked = list[list[int]]()
    for begin in range(0, len(questions), ENCODED_AT_ONCE):
        asked += encode(tokenizer, list(questions[begin : begin + ENCODED_AT_ONCE]))
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    rows = [[[cls, *ids, sep], passages[text].ids] for ids, text in zip(asked, texts, strict=True)]
    return Examples(rows, [], origins=[passages[text] for text in texts])


def cut(examples: Examples, config: Any) -> Examples:
    """Windows of texts as rows [CLS] question [SEP] window [SEP], which share window_stride tokens, at most half.

    Args:
        examples: of `encode_questions`, with a Gold each or none.
        config: the model's: window_length (as long as its positions if 0), window_stride, question_length.

    Returns:
        Rows with their boundaries; Labels where there are Golds: those of windows that do not hold the whole answer
        point at [CLS], as in google-research/electra; an Origin each.
    """
    rows, labels, boundaries, origins = [], list[Labels](), [], []
    length = max(SHORTEST, config.window_length or config.max_position_embeddings)
    for place, ((question, _), passage) in enumerate(zip(examples.rows, examples.origins, strict=True)):
        asked = question[: 1 + min(config.question_length, (length - 3) // 2, len(question) - 2)]
        head, sep = [*asked, question[-1]], question[-1]
        room = length - 1 - len(head)
        gold = examples.labels[place] if examples.labels else None
        answer = passage.tokens(*gold.span) if gold is not None and gold.span is not None else None
        stride = min(config.window_stride, room // 2)
        for window in windows([1] * len(passage.ids), room=room, stride=stride):
            rows.append([*head, *passage.ids[window.start : window.end], sep])
            boundaries.append(len(head))
            shift = len(head) - window.start
            origins.append(Origin(place, window, shift))
            if gold is not None:
                inside = answer is not None and window.start <= answer[0] and answer[1] < window.end
                start, end = (answer[0] + shift, answer[1] + shift) if inside and answer is not None else (0, 0)
                labels.append(Labels(start, end, not gold.texts))
    return Examples(rows, labels, boundaries=boundaries, origins=origins)


def answer_units(passages: Sequence[Passage]) -> str:
    """What F1 is to count: characters where texts have hardly any whitespace, else words."""
    distinct = {id(each): each.text for each in passages}.values()
    spaces = sum(sum(map(str.isspace, text)) for text in distinct)
    return "characters" if spaces < MOST_SPACELESS * sum(map(len, distinct)) else "words"


def check_row(place: str, column: str, answers: str, error: ValueError) -> UserError:
    """What is said of answers that cannot be parsed."""
    return UserError(
        f"{place}: {column!r} is {answers[:80]!r} ({error}), where an answer is needed, or JSON such as "
        '{"text": ["an answer"], "answer_start": [17]}'
    )
