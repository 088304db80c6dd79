"""Stream questions from JSON in the format of SQuAD: articles of paragraphs, each a context with questions and answers.

`{"data": [{"title", "paragraphs": [{"context", "qas": [{"id", "question", "answers": [{"text", "answer_start"}]}]}]}]}`

Guarantees: the file is in memory as a whole, for JSON has no lines; texts arrive exactly as written; a row is a
question. A question that lacks what is asked for is bad: an error with its number and id, or skipped and counted.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quorem.data.bad_rows import BadRow
from quorem.data.documents import SPLITS, RowCounts
from quorem.data.readers.lines import Lines
from quorem.data.readers.table import Column, ColumnNames, Table, TableRow
from quorem.data.readers.value import check_characters, to_whole_text
from quorem.errors import UserError, did_you_mean

COLUMNS = ("id", "title", "context", "question", "answers")
"""As Hugging Face's data sets squad and squad_v2 have them: a question without an answer has empty lists."""
OF_PARAGRAPHS = ("title", "context")
FORM = '{"data": [{"title": ..., "paragraphs": [{"context": ..., "qas": [...]}]}]}'


def open_squad(
    path: Path, names: ColumnNames, *, counts: RowCounts | None = None, encoding: str | None = None
) -> Table:
    """A file in SQuAD's format (v1 or v2) as a table: a row for each question, with the columns COLUMNS.

    Where only title or context is asked for, a paragraph is a row, so that no context is read several times, unless the
    rows will be written again. A row has the number of its question or paragraph. Its split is what the name of the
    file says: train-v2.0.json is train, dev.json is dev; None where it says nothing. Answers are JSON, the lists text
    and answer_start.

    Args:
        path: the file, packed if its name ends in .gz or .zst.
        names: of the columns to read, of COLUMNS.
        counts: a tally that is to know how much of the file is read.
        encoding: a Python codec; None for UTF-8. A byte order mark overrides it.

    Raises:
        UserError: if the file is missing, a folder, unreadable, empty, no JSON or of another form, or for an unknown
            column.
    """
    articles = _articles(path, encoding, counts)  # first: a file of another form has other columns
    text_column = next((name for name in names.text if name in COLUMNS), names.text[0])
    asked = names.in_order(text_column)
    for name in filter(None, asked):
        if name not in COLUMNS:
            raise UserError(f"{path}: questions have no column {name!r}.{did_you_mean(name, COLUMNS)}")
    by_question = names.whole or any(name not in OF_PARAGRAPHS for name in filter(None, asked))
    return Table(text_column, tuple(map(Column, COLUMNS)), _rows(path, articles, asked, by_question))


def _articles(path: Path, encoding: str | None, counts: RowCounts | None) -> list[Any]:
    """What stands under "data", with the mistakes that make a file another one named."""
    text = "".join(Lines(path, encoding, counts))
    if not text.strip():
        raise UserError(f"{path} is empty: write {FORM}")
    try:
        found = json.loads(text, strict=False)
    except (json.JSONDecodeError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            raise UserError(f"{path}: looks like JSON Lines: name it .jsonl, or set data.format=jsonl") from error
        where = str(error) if isinstance(error, json.JSONDecodeError) else "too deep"
        raise UserError(f"{path}: not JSON ({where}): write {FORM}") from error
    if isinstance(found, list):
        raise UserError(f"{path}: a list, not SQuAD's format: write each of its objects in a line of a .jsonl file")
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        keys = f" (its keys are {', '.join(map(repr, list(found)[:5]))})" if isinstance(found, dict) else ""
        advice = "if it is JSON Lines, name it .jsonl, or set data.format=jsonl"
        raise UserError(f'{path}: has no list "data"{keys}, so it is not SQuAD\'s format, {FORM}; {advice}')
    articles: list[Any] = found["data"]
    return articles


def _rows(path: Path, articles: list[Any], asked: list[str | None], by_question: bool) -> Iterator[TableRow | BadRow]:
    split = _split(path)
    for number, place, values in _numbered(path, articles, by_question):
        try:
            if isinstance(values, BadRow):
                raise values
            texts = [None if name is None else to_whole_text(f"{place}: {name!r}", values[name]) for name in asked]
        except BadRow as error:
            yield error
        else:
            row = TableRow.of(number, texts, cells=[values.get(name) for name in COLUMNS])
            row.split = row.split or split
            yield row


def _numbered(path: Path, articles: list[Any], by_question: bool) -> Iterator[tuple[int, str, dict[str, Any] | BadRow]]:
    """Each question, or paragraph, with its number from 1 on and its place for messages, or what is wrong with it."""
    number = 0
    for title, paragraph in _paragraphs(path, articles):
        context = paragraph.get("context") if isinstance(paragraph, dict) else None
        questions = paragraph.get("qas") if by_question and isinstance(paragraph, dict) else [{"question": ""}]
        for question in questions if isinstance(questions, list) else [None]:
            number += 1
            named = f" (id {question['id']!r})" if isinstance(question, dict) and "id" in question else ""
            place = f"{path}, {'question' if by_question else 'paragraph'} {number}{named}"
            try:
                yield (
                    number,
                    place,
                    {"title": title, "context": _text(place, "context", context)}
                    | (_question(place, question) if by_question else {}),
                )
            except BadRow as error:
                yield number, place, error


def _paragraphs(path: Path, articles: list[Any]) -> Iterator[tuple[Any, Any]]:
    for number, article in enumerate(articles, start=1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            raise UserError(f'{path}: entry {number} of "data" has no list "paragraphs": {FORM}')
        for paragraph in paragraphs:
            yield article.get("title"), paragraph


def _question(place: str, found: Any) -> dict[str, Any]:
    """Id, question and answers; the latter None where there is no such key, as in files that are to be answered."""
    if not isinstance(found, dict):
        raise BadRow(f'{place}: no object with "question" in a list "qas"')
    answers = found.get("answers")
    if found.get("is_impossible") is True:  # what stands beside it are plausible wrong answers
        answers = []
    if answers is not None:
        whole = isinstance(answers, list) and all(isinstance(each, dict) and "text" in each for each in answers)
        if not whole:
            raise BadRow(f'{place}: "answers" is no list of objects with "text" and "answer_start"')
        texts = [_text(place, "text", each["text"]) for each in answers]
        answers = {"text": texts, "answer_start": [each.get("answer_start") for each in answers]}
    return {"id": found.get("id"), "question": _text(place, "question", found.get("question")), "answers": answers}


def _text(place: str, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadRow(f"{place}: {name!r} is {'missing' if value is None else 'no text'}, where a text is needed")
    check_characters(f"{place}: {name!r}", value)
    return value


def _split(path: Path) -> str | None:
    """The only name of a split among the words of a file's name."""
    words = {word for word in re.split(r"[^a-z]+", path.name.lower()) if word in SPLITS}
    return words.pop() if len(words) == 1 else None
